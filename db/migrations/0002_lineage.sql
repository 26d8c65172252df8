-- The log: events wait in the outbox, the sequencer numbers them and builds the Merkle tree over their leaves.
create schema lineage;

create table lineage.event_outbox (
    position bigint generated always as identity primary key,
    id uuid not null unique,
    xact xid8 not null default pg_current_xact_id(),
    kind text not null,
    name text not null,
    source text not null,
    collection text,
    item_id text,
    actor_id text not null,
    claimed_at timestamptz not null,
    body text not null check (body is not null and body::jsonb is not null),
    created_at timestamptz not null default now()
);
-- The trigger below asks once a changed item; the reader of an item's history asks too.
create index event_outbox_change on lineage.event_outbox (xact, collection, item_id);
create index event_outbox_item on lineage.event_outbox (collection, item_id);

create table lineage.event (
    seq bigint primary key check (seq >= 0), -- the leaf's index
    id uuid not null unique,
    kind text not null,
    name text not null,
    source text not null,
    collection text,
    item_id text,
    actor_id text not null,
    claimed_at timestamptz not null,
    recorded_at timestamptz not null,
    body text not null, -- RFC 8785 text: its SHA-256 is in the leaf
    body_hash bytea not null check (length(body_hash) = 32),
    leaf bytea not null check (length(leaf) between 1 and 65535), -- limit of the tlog-tiles entry format
    sig bytea,
    key_id text,
    check ((sig is null) = (key_id is null))
);
create index event_item on lineage.event (collection, item_id, seq);
create index event_name on lineage.event (name, seq);
create index event_recorded on lineage.event using brin (recorded_at);

create table lineage.event_hash (
    digest bytea not null,
    alg text not null,
    seq bigint not null references lineage.event (seq),
    primary key (digest, alg, seq)
);

create table lineage.log_tile (
    level integer not null check (level between 0 and 7),
    idx bigint not null check (idx >= 0),
    width integer not null check (width between 1 and 256),
    data bytea not null check (length(data) = 32 * width),
    primary key (level, idx, width)
);

create table lineage.checkpoint (
    size bigint primary key check (size > 0),
    root bytea not null check (length(root) = 32),
    note text not null,
    created_at timestamptz not null default now()
);

create table lineage.signing_key (
    key_id text primary key,
    vkey text not null,
    purpose text not null check (purpose in ('event', 'log', 'facade')),
    from_size bigint not null,
    to_size bigint,
    certificate text
);

create table lineage.trace_signature (
    event_id uuid primary key references lineage.event (id),
    message text not null,
    signature text not null,
    certificate text not null
);

create function lineage.refuse_change() returns trigger language plpgsql as $$
begin
    raise exception 'the log is append-only: % of lineage.% is refused', tg_op, tg_table_name using errcode = 'insufficient_privilege';
end $$;

create trigger append_only before update or delete or truncate on lineage.event
for each statement execute function lineage.refuse_change();
create trigger append_only before update or delete or truncate on lineage.checkpoint
for each statement execute function lineage.refuse_change();
create trigger append_only before update or delete or truncate on lineage.trace_signature
for each statement execute function lineage.refuse_change();

-- A change of pgstac's items that brought no event of its own is logged as unattributed. Deferred, so that the event may
-- be written before or after the change; one indexed look-up a changed row.
create function lineage.note_unattributed() returns trigger language plpgsql security definer set search_path = pg_catalog as $$
declare
    changed_collection text := case when tg_op = 'DELETE' then old.collection else new.collection end;
    changed_id text := case when tg_op = 'DELETE' then old.id else new.id end;
    what text := case tg_op when 'INSERT' then 'CREATE' else tg_op end;
begin
    if exists (
        select from lineage.event_outbox
        where xact = pg_current_xact_id() and collection = changed_collection and item_id = changed_id
    ) then
        return null;
    end if;
    if tg_op = 'DELETE' and exists (select from pgstac.items where collection = changed_collection and id = changed_id) then
        what := 'UPDATE'; -- pgstac replaces by delete and insert
    end if;
    insert into lineage.event_outbox (id, kind, name, source, collection, item_id, actor_id, claimed_at, body)
    values (
        gen_random_uuid(), what, changed_id, 'own', changed_collection, changed_id, 'unattributed', clock_timestamp(),
        jsonb_build_object('reason', 'pgstac items changed without an event', 'database_user', session_user)::text
    );
    return null;
end $$;

create constraint trigger note_unattributed after insert or update or delete on pgstac.items
deferrable initially deferred for each row execute function lineage.note_unattributed();

revoke update, delete, truncate on lineage.event, lineage.checkpoint, lineage.log_tile from public;
