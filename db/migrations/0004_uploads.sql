-- Users' files on their way to an item. States and arrows: ingest/uploads/model.py.
create table federator.upload (
    id uuid primary key,
    owner text not null,
    collection_id text not null,
    title text not null check (octet_length(title) <= 255),
    datetime timestamptz not null,
    state text not null check (state in (
        'created', 'uploading', 'received', 'scanning', 'converting', 'registering', 'ready', 'rejected', 'failed', 'deleting', 'deleted'
    )),
    length bigint check (length > 0),
    sha256 bytea check (length(sha256) = 32),
    blake3 bytea check (length(blake3) = 32),
    item_id text,
    error_code text,
    error_detail text,
    error_facts jsonb not null default '{}',
    warnings text[] not null default '{}',
    attempts integer not null default 0,
    lease_until timestamptz,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    check ((state in ('rejected', 'failed')) = (error_code is not null)),
    check (state <> 'ready' or item_id is not null)
);
create index upload_state on federator.upload (state, lease_until);
create unique index upload_item on federator.upload (collection_id, item_id) where item_id is not null;
