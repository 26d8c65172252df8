-- Traces in the shape of the Copernicus traceability service that others made, word for word, and keys by which people sign them.

create table lineage.foreign_trace (
    event_id uuid primary key, -- of the event that says its hash; it waits in the outbox at first
    origin_kind text not null check (origin_kind in ('registered', 'upstream')),
    is_passed_on boolean not null, -- shown by the façade, word for word if it is an upstream's
    trace_id text check (octet_length(trace_id) <= 256), -- as the upstream calls it
    origin text check (octet_length(origin) <= 2048),
    event text not null check (event in ('CREATE', 'COPY', 'DELETE', 'OBSOLETE')),
    product_name text not null check (octet_length(product_name) <= 2048),
    collection text, -- of the item that it was told of; null: of none
    item_id text,
    raw text not null check (octet_length(raw) <= 2 * 1024 * 1024),
    raw_sha256 bytea not null check (octet_length(raw_sha256) = 32),
    message_sha256 bytea check (octet_length(message_sha256) = 32),
    key_sha256 bytea check (octet_length(key_sha256) = 32), -- of the public key that signed
    verdict text not null, -- JSON, as it was when the trace came
    created_at timestamptz not null default now(),
    check ((collection is null) = (item_id is null))
);
comment on table lineage.foreign_trace is
    'registered: by PUT /trace/api/v1/traces, by whoever signed it; upstream: an answer of another service, brought here.';
-- What was signed is registered once: a copy of it that comes again says nothing new.
create unique index foreign_trace_message on lineage.foreign_trace (message_sha256, key_sha256) where origin_kind = 'registered';
create unique index foreign_trace_told on lineage.foreign_trace (collection, item_id, raw_sha256) nulls not distinct where origin_kind = 'upstream';
create index foreign_trace_id on lineage.foreign_trace using hash (trace_id) where trace_id is not null;
create index foreign_trace_obsolete on lineage.foreign_trace (event_id) where event = 'OBSOLETE' and is_passed_on;
do $$ begin
    alter table lineage.foreign_trace alter column raw set compression lz4;
exception when feature_not_supported then
    null; -- a server that was built without it
end $$;
create trigger append_only before update or delete or truncate on lineage.foreign_trace
for each statement execute function lineage.refuse_change();

create table lineage.foreign_trace_hash (
    digest bytea not null check (octet_length(digest) between 1 and 64),
    event_id uuid not null references lineage.foreign_trace (event_id),
    primary key (digest, event_id)
);
create trigger append_only before update or delete or truncate on lineage.foreign_trace_hash
for each statement execute function lineage.refuse_change();

create table lineage.trace_key (
    key_sha256 bytea primary key check (octet_length(key_sha256) = 32), -- of the SubjectPublicKeyInfo
    owner text not null check (octet_length(owner) between 1 and 256), -- a caller's name
    kind text not null,
    title text not null default '' check (octet_length(title) <= 1024),
    created_at timestamptz not null default now(),
    created_by text not null,
    revoked_at timestamptz
);
comment on table lineage.trace_key is 'Public keys by which a caller may sign traces that he registers, whatever name his certificate has.';

-- What the façade lists as obsolete.
create index event_obsolete on lineage.event (seq) where kind in ('OBSOLETE', 'WITHDRAW', 'REPLACE');

-- What a trace needs beside the event: the façade's signature, a foreign trace, and the last event before that named the product's hashes,
-- for events that end something and do not say them again. An item that goes on under another id says what it was called (`formerly`).
create function lineage.trace_facts(numbers bigint[])
returns table (seq bigint, message text, signature text, certificate text, foreign_raw text, foreign_kind text, foreign_origin text,
    foreign_key bytea, before text)
language plpgsql stable as $$
begin
    return query
    select e.seq, t.message, t.signature, t.certificate, f.raw, f.origin_kind, f.origin, f.key_sha256, p.body
    from lineage.event as e
    left join lineage.trace_signature as t on t.event_id = e.id
    left join lineage.foreign_trace as f on f.event_id = e.id and f.is_passed_on
    left join lateral (
        select b.body from lineage.event as b
        where e.kind in ('DELETE', 'OBSOLETE', 'WITHDRAW', 'REPLACE', 'RESTORE')
            and b.collection = e.collection and b.item_id = coalesce(e.body::jsonb ->> 'formerly', e.item_id) and b.seq < e.seq
            and b.kind in ('CREATE', 'REPLACE', 'REGISTER', 'COPY') and b.body::jsonb ? 'hashes'
        order by b.seq desc limit 1
    ) as p on true
    where e.seq = any (numbers);
end $$;
