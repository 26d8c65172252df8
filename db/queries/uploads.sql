-- name: insert
-- A new upload, without bytes.
insert into federator.upload (id, owner, collection_id, title, datetime, state) values ($1, $2, $3, $4, $5, 'created') returning *;

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
-- What is durable on disk.
update federator.upload set length = $2, sha256 = $3, blake3 = $4, updated_at = now() where id = $1 returning *;

-- name: set_item
-- Which item the upload becomes, and what was noticed on the way.
update federator.upload set item_id = $2, warnings = $3, updated_at = now() where id = $1 returning *;

-- name: claim
-- Work on an upload that nobody works on: fresh, or left by a dead worker. One row or none.
update federator.upload
set attempts = attempts + 1, lease_until = now() + make_interval(secs => $2), updated_at = now()
where id = $1 and state in ('received', 'scanning', 'converting', 'registering') and coalesce(lease_until, '-infinity') < now()
returning *;

-- name: renew
-- The work goes on.
update federator.upload set lease_until = now() + make_interval(secs => $2) where id = $1 and lease_until is not null;

-- name: release
-- Give the work back: the next worker need not wait for the lease.
update federator.upload set lease_until = null where id = $1;

-- name: abandoned
-- Uploads whose worker died, and received ones that nobody has taken for a while.
select id from federator.upload
where (state in ('scanning', 'converting', 'registering') and coalesce(lease_until, '-infinity') < now())
   or (state = 'received' and updated_at < now() - interval '1 minute');

-- name: collection
-- The collection's document, to know whether it takes uploads.
select content from pgstac.collections where id = $1;
