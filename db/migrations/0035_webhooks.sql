-- Where alerts of watches are sent to (ingest/alerting.py): at least once, in their order, each with an id.
create table lineage.webhook (
    watch_id uuid primary key references lineage.watch (id) on delete cascade,
    owner text not null,
    principals text[] not null, -- of who set it; what they are worth when an alert is sent decides what is sent
    url text not null check (octet_length(url) between 1 and 2000),
    secret bytea not null check (octet_length(secret) = 32),
    next_seq bigint not null, -- all before was sent, or was nothing to send
    status text not null default 'active' check (status in ('active', 'disabled')),
    due_at timestamptz not null default now(),
    failures int not null default 0, -- in a row
    last_error text,
    sent bigint not null default 0,
    sent_at timestamptz,
    created_at timestamptz not null default now()
);
create index webhook_due on lineage.webhook (due_at) where status = 'active';
create index webhook_owner on lineage.webhook (owner);
comment on table lineage.webhook is 'Where alerts of a watch are sent to.';
