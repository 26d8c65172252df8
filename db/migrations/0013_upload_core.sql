-- Resumable uploads: what was promised, what is durable, when an unfinished one ends, what is kept, and the quota of each owner.
alter table federator.upload
    add column file_name text check (octet_length(file_name) <= 255), -- for display only
    add column tus_metadata text not null default '' check (octet_length(tus_metadata) <= 8192), -- as it was sent; HEAD gives it back
    add column promised_sha256 bytea check (length(promised_sha256) = 32),
    add column offset_bytes bigint not null default 0 check (offset_bytes >= 0), -- durable when the last request ended
    add column expires_at timestamptz not null default now() + interval '48 hours', -- of an unfinished upload
    add column keep_original boolean not null default true,
    add column freed_at timestamptz, -- when the original went
    add column cog_bytes bigint check (cog_bytes >= 0),
    add column part_bytes bigint check (part_bytes > 0), -- sent in parts to the object store, each of this size but the last
    add column store_upload text, -- the object store's name of the multipart upload
    add constraint upload_parts check ((part_bytes is null) or (length is not null));
create index upload_owner on federator.upload (owner);
create index upload_expiry on federator.upload (expires_at) where state in ('created', 'uploading');
create index upload_to_free on federator.upload (updated_at) where freed_at is null and state in ('ready', 'rejected', 'deleting', 'deleted');
