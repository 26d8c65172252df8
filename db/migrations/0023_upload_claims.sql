-- Uploads that promised no length: the bytes that a request is sending now, so that two at once do not slip under a quota together.
alter table federator.upload add column claimed_bytes bigint check (claimed_bytes > 0);
comment on column federator.upload.claimed_bytes is 'Announced by the request that sends the file now; counted with its owner''s bytes until the request ends.';
create index upload_claims on federator.upload (updated_at) where claimed_bytes is not null;
