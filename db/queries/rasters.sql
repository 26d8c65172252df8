-- name: describe
-- What the user says of an upload, checked by the caller.
update federator.upload set description = $2, updated_at = now() where id = $1;

-- name: description
-- What the user said of an upload; null is an upload that is not there.
select description from federator.upload where id = $1;

-- name: parents
-- Items that an upload is derived from, by id or by the SHA-256 of an uploaded original, as far as its owner may see them.
with wanted as (
    select collection, id from pgstac.items where id = any ($1::text[])
    union
    select collection_id, item_id from federator.upload where state = 'ready' and sha256 = any ($2::bytea[])
)
select w.collection, w.id, encode(u.sha256, 'hex') as sha256
from wanted as w
cross join lateral federator.item(w.collection, w.id, $3::text[]) as seen
left join federator.upload as u on u.collection_id = w.collection and u.item_id = w.id
order by w.collection, w.id limit 100;
