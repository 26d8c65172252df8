-- Harvesting: what was asked of each source, where to resume, what each source holds, what was refused.

create table federator.harvest_run (
    id bigint generated always as identity primary key,
    source_id text not null,
    collection_id text not null,
    -- '' for the plain run; canonical JSON of since/until/bbox for a limited one, which has a cursor of its own.
    query_key text not null default '',
    status text not null default 'running' check (status in ('running', 'done', 'failed', 'interrupted')),
    started_at timestamptz not null default now(),
    heartbeat_at timestamptz not null default now(),
    finished_at timestamptz,
    pages bigint not null default 0,
    fetched bigint not null default 0,
    added bigint not null default 0,
    changed bigint not null default 0,
    unchanged bigint not null default 0,
    quarantined bigint not null default 0,
    total bigint,
    error text,
    check ((status = 'running') = (finished_at is null))
);
comment on table federator.harvest_run is 'One row per harvest run of one source and collection; counts grow with each committed page.';
comment on column federator.harvest_run.added is 'Records that this source had not delivered before.';
comment on column federator.harvest_run.total is 'How many records the source said there are, an estimate; null when it does not say.';
create index harvest_run_latest on federator.harvest_run (source_id, collection_id, id desc);
create index harvest_run_running on federator.harvest_run (source_id, collection_id) where status = 'running';

create table federator.harvest_cursor (
    source_id text not null,
    collection_id text not null,
    query_key text not null default '',
    position jsonb not null,
    -- True when the run that wrote it reached the source's end: the next run starts an overlap before it.
    complete boolean not null default false,
    run_id bigint not null references federator.harvest_run (id),
    updated_at timestamptz not null default now(),
    primary key (source_id, collection_id, query_key)
);
comment on table federator.harvest_cursor is 'Where to resume; position is written and read by the adapter alone.';

create table federator.harvested_item (
    collection_id text not null,
    item_id text not null,
    product text not null,
    datetime timestamptz not null,
    item_sha256 bytea not null check (octet_length(item_sha256) = 32),
    primary key (collection_id, item_id)
);
comment on table federator.harvested_item is
    'One row per merged item: where pgstac keeps it (datetime chooses the partition) and the hash of what was last written.';

create table federator.holding (
    source_id text not null,
    collection_id text not null,
    record_id text not null,
    item_id text not null,
    product text not null,
    record bytea not null,
    record_sha256 bytea not null check (octet_length(record_sha256) = 32),
    mapping_version int not null,
    published timestamptz,
    first_seen timestamptz not null default now(),
    last_seen timestamptz not null default now(),
    primary key (source_id, collection_id, record_id),
    foreign key (collection_id, item_id) references federator.harvested_item
);
comment on table federator.holding is 'One source''s copy of a product. record is the upstream record verbatim, compressed by zlib.';
create index holding_item on federator.holding (collection_id, item_id);
create index holding_product on federator.holding (product);
alter table federator.holding alter column record set storage external;

create table federator.quarantine (
    source_id text not null,
    collection_id text not null,
    record_id text not null,
    record bytea not null,
    code text not null,
    detail text not null,
    first_seen timestamptz not null default now(),
    last_seen timestamptz not null default now(),
    tries int not null default 1,
    primary key (source_id, collection_id, record_id)
);
comment on table federator.quarantine is 'Records refused, with a stable code and their bytes (zlib).';
create index quarantine_code on federator.quarantine (code);
