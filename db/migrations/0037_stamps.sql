-- The time of checkpoints by somebody else's clock (RFC 3161), and a role that can change neither that nor the traces of others.

create table lineage.checkpoint_stamp (
    size bigint primary key references lineage.checkpoint (size),
    authority text not null check (octet_length(authority) <= 2048), -- the URL that was asked
    stamped_at timestamptz not null, -- as the authority says
    reply bytea not null check (octet_length(reply) <= 65536), -- TimeStampResp in DER, over the checkpoint's note
    created_at timestamptz not null default now()
);
create trigger append_only before update or delete or truncate on lineage.checkpoint_stamp
for each statement execute function lineage.refuse_change();

-- As before, with the tables that came since. Grants are given anew by `python -m db roles`.
create or replace function federator.grant_service(role_name text) returns void language plpgsql as $$
declare
    kept constant text[] := array[
        'event', 'event_hash', 'checkpoint', 'checkpoint_stamp', 'cosignature', 'log_tile', 'trace_signature', 'signing_key',
        'foreign_trace', 'foreign_trace_hash'
    ];
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
