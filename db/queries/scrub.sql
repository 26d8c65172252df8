-- name: ready_rasters
-- Rasters that are served, in the order of their uploads, without those that are known to be damaged.
select u.id, u.collection_id, u.item_id, u.title from federator.upload as u
where u.state = 'ready' and u.id > $1 and not exists (select from federator.damaged_raster as d where d.upload_id = u.id)
order by u.id limit $2;

-- name: is_logged
-- Whether an event of the upload names this hash for its raster, numbered or waiting.
select exists (
    select from lineage.event_hash as h join lineage.event as e on e.seq = h.seq
    where h.digest = $2 and h.alg = 'SHA256' and e.body::jsonb ->> 'upload' = $1::uuid::text
) or exists (
    select from lineage.event_outbox
    where collection = $3 and body::jsonb ->> 'upload' = $1::uuid::text
        and body::jsonb -> 'hashes' @> jsonb_build_array(jsonb_build_object('alg', 'SHA256', 'digest', encode($2, 'hex')))
) as is_logged;

-- name: is_ready
-- Whether the raster is still to be served: it may have been deleted while it was read. Locked.
select true as is_ready from federator.upload where id = $1 and state = 'ready' for update;

-- name: note_damaged
-- Out of service.
insert into federator.damaged_raster (upload_id, found_sha256) values ($1, $2) on conflict do nothing;

-- name: damaged
-- Whether a raster was taken out of service, and when.
select found_at from federator.damaged_raster where upload_id = $1;
