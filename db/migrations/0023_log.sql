-- The log in full: keys that change, witnesses, tables that nobody but the sequencer's own functions may change.

-- What KEY events have said. A projection: audit makes it again from the events and compares.
alter table lineage.signing_key add column compromised_since bigint check (compromised_since >= 0);
comment on column lineage.signing_key.from_size is 'An event key may sign leaves, a log key checkpoints, of from_size <= n < to_size.';
comment on column lineage.signing_key.compromised_since is 'Leaves from this number on that the key signed are suspect.';

create function lineage.keep_key() returns trigger language plpgsql as $$
begin
    if (new.key_id, new.vkey, new.purpose, new.from_size, new.certificate) is distinct from
        (old.key_id, old.vkey, old.purpose, old.from_size, old.certificate)
        or (old.to_size is not null and new.to_size is distinct from old.to_size)
        or (old.compromised_since is not null and coalesce(new.compromised_since > old.compromised_since, true))
    then
        raise exception 'a key of the log is retired or revoked, nothing else' using errcode = 'insufficient_privilege';
    end if;
    return new;
end $$;
create trigger keep_key before update on lineage.signing_key for each row execute function lineage.keep_key();
create trigger append_only before delete or truncate on lineage.signing_key
for each statement execute function lineage.refuse_change();

-- Witnesses' signatures of checkpoints: each one line of a signed note.
create table lineage.cosignature (
    size bigint not null references lineage.checkpoint (size),
    witness text not null, -- name+hash of its verifier key
    line text not null check (octet_length(line) <= 2000),
    created_at timestamptz not null default now(),
    primary key (size, witness)
);
create trigger append_only before update or delete or truncate on lineage.cosignature
for each statement execute function lineage.refuse_change();
create trigger append_only before update or delete or truncate on lineage.event_hash
for each statement execute function lineage.refuse_change();

-- Tiles are written once. Partial ones go when the full one is there, by this function alone.
create trigger append_only before update or truncate on lineage.log_tile
for each statement execute function lineage.refuse_change();
create function lineage.keep_tile() returns trigger language plpgsql as $$
begin
    if not exists (
        select from lineage.log_tile where level = old.level and idx = old.idx and width = 256 and substr(data, 1, 32 * old.width) = old.data
    ) or old.width = 256 then
        raise exception 'the log is append-only: delete of lineage.log_tile is refused' using errcode = 'insufficient_privilege';
    end if;
    return old;
end $$;
create trigger keep_tile before delete on lineage.log_tile for each row execute function lineage.keep_tile();
create function lineage.drop_partial_tiles(at_level integer, at_idx bigint) returns void
language sql security definer set search_path = pg_catalog as $$
    delete from lineage.log_tile where level = at_level and idx = at_idx and width < 256
$$;

-- A name may be as long as a leaf lets it; a B-tree's entry may not.
drop index lineage.event_name;
create index event_name on lineage.event using hash (name);
create index event_key on lineage.event (name, seq) where kind = 'KEY';

-- Rasters whose bytes are no longer those that the log names (`python -m ingest scrub`): out of service, the file put aside.
create table federator.damaged_raster (
    upload_id uuid primary key references federator.upload (id) on delete cascade,
    found_at timestamptz not null default now(),
    found_sha256 bytea -- null: there was no file
);

-- A role for the service: it may do what the service does, and of what is written in the log change nothing. Run again after a migration.
-- The caller owns the tables; he may create roles, where it is not there yet.
create function federator.grant_service(role_name text) returns void language plpgsql as $$
declare
    kept constant text[] := array['event', 'event_hash', 'checkpoint', 'cosignature', 'log_tile', 'trace_signature', 'signing_key'];
    one text;
begin
    if not exists (select from pg_roles where rolname = role_name) then
        execute format('create role %I nologin', role_name);
    end if;
    execute format('grant pgstac_ingest to %I', role_name);
    for one in select nspname from pg_namespace where nspname in ('federator', 'lineage', 'public', 'procrastinate') loop
        execute format('grant usage on schema %I to %I', one, role_name);
        execute format('grant select, insert, update, delete on all tables in schema %I to %I', one, role_name);
        execute format('grant usage, select on all sequences in schema %I to %I', one, role_name);
        execute format('grant execute on all routines in schema %I to %I', one, role_name);
    end loop;
    execute format('revoke execute on function federator.grant_service from %I', role_name);
    execute format('revoke insert, update, delete on federator.migration, federator.component from %I', role_name);
    foreach one in array kept loop
        execute format('revoke update, delete, truncate on lineage.%I from %I', one, role_name);
    end loop;
    -- When a key was retired or revoked; a trigger lets nothing else be changed.
    execute format('grant update (to_size, compromised_since) on lineage.signing_key to %I', role_name);
end $$;
revoke execute on function federator.grant_service from public;
