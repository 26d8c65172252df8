-- name: collection
-- Who sees a collection and writes into it, if the caller sees it; and whether he may change that.
select c.id, coalesce(a.visibility, 'public') as visibility, a.owner, coalesce(a.readers, '{}') as readers, coalesce(a.writers, '{}') as writers,
    federator.may_share(c.id, $3::text[]) as may_share
from pgstac.collections as c left join federator.collection_access as a on a.collection_id = c.id
where c.id = $1 and c.content ->> 'type' = 'Collection' and c.id <> all (federator.hidden_collections($2::text[]));

-- name: lock_collection
-- Changes of who sees a collection come one after the other.
select from pgstac.collections where id = $1 for update;

-- name: item
-- Who sees an item, if the caller sees it; whose it is, and whether he may change that.
select i.private, a.owner as collection_owner, u.principal as uploader,
    federator.may_share(i.collection, $4::text[]) or coalesce(u.principal = any ($4::text[]), false) as may_share
from pgstac.items as i
left join federator.collection_access as a on a.collection_id = i.collection
left join lateral (
    select 'user:' || owner as principal from federator.upload
    where collection_id = i.collection and item_id = i.id and state not in ('detached', 'rejected', 'failed', 'deleting', 'deleted')
    order by created_at, id limit 1
) as u on true
where i.collection = $1 and i.id = $2 and (i.private is null or federator.may_read(i.private, $3::text[]))
    and i.collection <> all (federator.hidden_collections($3::text[]));

-- name: lock_item
-- Changes of who sees an item come one after the other, and after the collection's.
select from pgstac.items where collection = $1 and id = $2 for update;

-- name: set_collection
-- From now on.
insert into federator.collection_access as a (collection_id, visibility, owner, readers, writers) values ($1, $2, $3, $4, $5)
on conflict (collection_id) do update set visibility = excluded.visibility, readers = excluded.readers, writers = excluded.writers;

-- name: set_item
-- From now on; null: as its collection.
select federator.set_private($1, $2, $3::jsonb);

-- name: claim_collection
-- A new collection is its maker's; an id that a hidden one had is his to use, as the statement before has found.
with freed as (delete from federator.gone_collection where collection_id = $1)
insert into federator.collection_access (collection_id, visibility, owner)
select $1, $2, $3::text where $3::text is not null;

-- name: upload_target
-- Whether a caller sees a collection, whether everybody may upload into it, and whether he may write into it.
select coalesce(content -> 'federator:writable' = 'true', false) as is_common, federator.may_write(id, $3::text[]) as may_write
from pgstac.collections
where id = $1 and content ->> 'type' = 'Collection' and id <> all (federator.hidden_collections($2::text[]));

-- name: collection_owner
-- Whose a collection is; no row: nobody's.
select owner from federator.collection_access where collection_id = $1;

-- name: uploaded_by
-- Those of these items that the caller has uploaded.
select item_id from federator.upload
where collection_id = $1 and item_id = any ($2::text[]) and 'user:' || owner = any ($3::text[])
    and state not in ('detached', 'rejected', 'failed', 'deleting', 'deleted');

-- name: readable_uploads
-- Those of these uploads whose files a caller may read. Of one whose item was deleted nobody reads the file.
select id from federator.readable_uploads($1::uuid[], $2::text[]) as readable_uploads (id)
where not exists (select from federator.upload as u where u.id = readable_uploads.id and u.state = 'detached');

-- name: is_public
-- Whether everybody sees a collection.
select $1 <> all (federator.hidden_collections('{}')) as is_public;
