-- name: be_patient
-- A caller waits: give up sooner than a harvest would. Milliseconds.
select set_config('lock_timeout', $1, true), set_config('statement_timeout', $2, true);

-- name: enter_collection
-- Whether it is there for the caller, and whether he may write into it; nobody deletes it before the transaction ends.
select federator.may_write(id, $3::text[]) as may_write from pgstac.collections
where id = $1 and content ->> 'type' = 'Collection' and id <> all (federator.hidden_collections($2::text[]))
for key share;

-- name: items_now
-- Where items are, locked, and whether the caller may see them.
select id, datetime, private is null or federator.may_read(private, $3::text[]) as is_seen
from pgstac.items where collection = $1 and id = any ($2::text[]) for update;

-- name: harvested_items
-- Items that a source holds a copy of.
select item_id from federator.harvested_item
where collection_id = $1 and item_id = any ($2::text[]) and withdrawn_at is null order by item_id;

-- name: note_edited
-- From now on harvest looks before it writes.
insert into federator.edited_collection (collection_id) values ($1) on conflict do nothing;

-- name: is_edited
-- Whether callers have written items into a collection.
select exists (select from federator.edited_collection where collection_id = $1) as is_edited;

-- name: keep_displaced
-- Before harvest writes over items of callers.
insert into federator.displaced_item (collection_id, item_id, content)
select collection, id, pgstac.get_item(id, collection) from pgstac.items where collection = $1 and id = any ($2::text[])
returning item_id;

-- name: stored_item
-- One item as the API reads it.
select collection, id, packed, geometry, content from federator.item($1, $2, $3::text[]);

-- name: collection_now
-- As it is stored and as it is shown (0011_queryables.sql), locked, if the caller may see it; and whether he may change it.
select c.content::text as content, federator.described(c.content, s.summary)::text as shown, federator.may_share(c.id, $3::text[]) as may_change
from pgstac.collections as c left join federator.collection_summary as s on s.collection_id = c.id
where c.id = $1 and c.content ->> 'type' = 'Collection' and c.id <> all (federator.hidden_collections($2::text[]))
for update of c;

-- name: insert_collection
-- Nothing comes back when there is one of that id, or when there was one that the caller could not see.
insert into pgstac.collections (content)
select $1::text::jsonb where not (($1::text::jsonb) ->> 'id') = any (federator.hidden_collections($2::text[]))
on conflict (id) do nothing returning id;

-- name: replace_collection
-- The whole document.
update pgstac.collections set content = $2::text::jsonb where id = $1;

-- name: running_harvest
-- A run into this collection that has given a sign of life within so many seconds.
select source_id from federator.harvest_run
where collection_id = $1 and status = 'running' and heartbeat_at > now() - make_interval(secs => $2) limit 1;

-- name: delete_collection
-- With its items, their events and what is known of their harvest.
select federator.delete_collection($1, $2) as items;
