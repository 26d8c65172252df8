-- name: insert
-- A new upload, without bytes.
insert into federator.upload (
    id, owner, collection_id, title, datetime, state, length, promised_sha256, file_name, tus_metadata, keep_original, part_bytes, expires_at,
    target_item, role, asset_key, replaces_asset, visibility, readers
)
values ($1, $2, $3, $4, $5, 'created', $6, $7, $8, $9, $10, $11, now() + make_interval(secs => $12::float8 * 3600), $13, $14, $15, $16,
    $17, $18)
returning *;

-- name: lock_owner
-- An owner's uploads are counted one after the other, so that no two slip under a limit together; to the transaction's end.
select pg_advisory_xact_lock(hashtextextended('federator.upload/' || $1::text, 0));

-- name: usage
-- What an owner has: unfinished uploads, and the bytes that are there or promised.
select
    count(*) filter (where state in ('created', 'uploading')) as open,
    coalesce(sum(greatest(length, offset_bytes, claimed_bytes)) filter (where freed_at is null), 0)
    + coalesce(sum(cog_bytes) filter (where state in ('ready', 'detached', 'deleting')), 0) as bytes
from federator.upload where owner = $1;

-- name: claim_bytes
-- What a request is about to send; null: it has ended.
update federator.upload set claimed_bytes = $2, updated_at = now() where id = $1;

-- name: claims
-- Of requests that a crash may have ended.
select * from federator.upload
where claimed_bytes is not null and state in ('created', 'uploading') and updated_at < now() - interval '1 minute'
order by updated_at limit 1000;

-- name: set_offset
-- What is durable; the upload goes on living for a while.
update federator.upload set offset_bytes = $2, expires_at = now() + make_interval(secs => $3::float8 * 3600), updated_at = now()
where id = $1 returning *;

-- name: set_time
-- When the data are from, as its owner has said later: a moment, a range, or both. All is tried anew.
update federator.upload set datetime = $2, description = description || $3::jsonb, attempts = 0, lease_until = null where id = $1;

-- name: set_store_upload
-- The object store's multipart upload, once, and of an upload that waits for it: one that has ended forgets no name that it never knew.
update federator.upload set store_upload = $2, updated_at = now()
where id = $1 and store_upload is null and state = 'created' returning *;

-- name: set_hashes
-- Of an original that came by way of the object store.
update federator.upload set sha256 = $2, blake3 = $3, updated_at = now() where id = $1 returning *;

-- name: expired
-- Unfinished for too long.
select * from federator.upload where state in ('created', 'uploading') and expires_at < now() order by expires_at limit 1000;

-- name: begun
-- Some bytes came: a crash may have left one complete.
select * from federator.upload where state = 'uploading' and part_bytes is null order by updated_at limit 1000;

-- name: to_free
-- Originals that nobody needs any more. A question to the user (DATETIME_REQUIRED) keeps them for a month.
select * from federator.upload
where freed_at is null and (
    (state in ('ready', 'detached') and not keep_original)
    or (state = 'rejected' and (error_code <> 'DATETIME_REQUIRED' or updated_at < now() - interval '30 days'))
    or state = 'deleted'
)
order by updated_at limit 1000;

-- name: set_freed
-- The original is gone; its bytes are the owner's again.
update federator.upload set freed_at = now() where id = $1 and freed_at is null;

-- name: unmeasured
-- Ready ones whose COG has not been counted.
select id from federator.upload where state in ('ready', 'detached') and cog_bytes is null limit 1000;

-- name: set_cog_bytes
-- For the owner's quota.
update federator.upload set cog_bytes = $2 where id = $1;

-- name: deleting
-- Removals that a crash interrupted.
select * from federator.upload where state = 'deleting' order by updated_at limit 1000;

-- name: living
-- Which of these have files that belong there: an original (with a bucket, $2, only while a worker needs it), a COG on its way or ready.
select
    id,
    freed_at is null and (not $2 or state in ('created', 'uploading', 'received', 'scanning', 'converting', 'registering')) as original,
    state in ('converting', 'registering', 'ready', 'detached') as cog
from federator.upload where id = any($1::uuid[]);

-- name: writable_collections
-- For the upload page: those that take everybody's uploads and that the caller may see, and those that are his or name him as a writer.
select c.id from pgstac.collections as c left join federator.collection_access as a on a.collection_id = c.id
where (c.content -> 'federator:writable' = 'true'::jsonb or a.owner = any ($1::text[]) or a.writers && $1::text[])
    and c.id <> all (federator.hidden_collections($1::text[]))
order by c.id limit 1000;

-- name: get
-- State as it is.
select * from federator.upload where id = $1;

-- name: lock
-- Arrows of one upload happen one after the other.
select * from federator.upload where id = $1 for update;

-- name: set_state
-- The caller has checked the arrow under the row's lock.
update federator.upload
set state = $2, error_code = $3, error_detail = $4, error_facts = $5, updated_at = now()
where id = $1 returning *;

-- name: set_received
-- What is durable.
update federator.upload set length = $2, offset_bytes = $2, claimed_bytes = null, sha256 = $3, blake3 = $4, updated_at = now()
where id = $1 returning *;

-- name: set_item
-- Which item the upload is in, what was noticed on the way, and what the item needs of it when its parts change.
update federator.upload set item_id = $2, target_item = $2, warnings = $3, version = $4, shown = $5, updated_at = now()
where id = $1 returning *;

-- name: claim
-- Work on an upload that nobody works on: fresh, or left by a dead worker. One row or none.
update federator.upload
set attempts = attempts + 1, lease_until = now() + make_interval(secs => $2), updated_at = now()
where id = $1 and state in ('received', 'scanning', 'converting', 'registering') and coalesce(lease_until, '-infinity') < now()
returning *;

-- name: renew
-- The work goes on; no row: nobody wants it any more.
update federator.upload set lease_until = now() + make_interval(secs => $2)
where id = $1 and lease_until is not null and state in ('received', 'scanning', 'converting', 'registering') returning id;

-- name: release
-- Give the work back: the next worker need not wait for the lease.
update federator.upload set lease_until = null where id = $1;

-- name: abandoned
-- Uploads whose worker died, and received ones that nobody has taken for a while.
select id from federator.upload
where (state in ('scanning', 'converting', 'registering') and coalesce(lease_until, '-infinity') < now())
   or (state = 'received' and updated_at < now() - interval '1 minute' and coalesce(lease_until, '-infinity') < now());

-- name: parts_of_item
-- Uploads that an item is made of, or will be: living ones, oldest first.
select * from federator.upload
where collection_id = $1 and target_item = $2 and state not in ('detached', 'rejected', 'failed', 'deleting', 'deleted')
order by created_at, id;

-- name: supersede
-- Uploads of an item that has become an older version, under another id.
update federator.upload set item_id = $3, target_item = $3, is_superseded = true, updated_at = now()
where collection_id = $1 and item_id = $2 and state not in ('detached', 'rejected', 'failed', 'deleting', 'deleted');

-- name: of_item
-- Uploads that an item, or ($2 null) every item of a collection, is made of: ready, or shown as a preview.
select id, state from federator.upload
where collection_id = $1 and ($2::text is null or item_id = $2) and item_id is not null and state in ('converting', 'registering', 'ready')
order by created_at, id;

-- name: promote
-- What was an older version is the newest now.
update federator.upload set is_superseded = false, updated_at = now() where collection_id = $1 and item_id = $2 and is_superseded;

-- name: readers
-- Who may read an item, as it stands.
select private::text as private from pgstac.items where collection = $1 and id = $2 and private is not null;

-- name: first_of_same
-- The owner's first ready upload of the same bytes.
select id, collection_id, item_id from federator.upload
where owner = $1 and sha256 = $2 and state = 'ready' and id <> $3 order by created_at, id limit 1;

-- name: deleted_item
-- What was there: an item whose uploads are deleted, or that was deleted itself. Who may not see the collection or the item is told nothing.
select max(u.updated_at) as deleted_at, min(u.title) as title, array_agg(encode(u.sha256, 'hex') order by u.created_at) as sha256
from federator.upload as u
where u.collection_id = $1 and u.item_id = $2 and u.state in ('detached', 'deleting', 'deleted')
    and not exists (select from federator.hidden_items($3::text[]) as h where h.collection_id = $1 and h.item_id = $2)
having count(*) > 0;
