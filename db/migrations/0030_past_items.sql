-- What is replaced is kept as pgstac stores it: its bytes are copied as they are and become a text when a worker makes the document.
alter table lineage.past_item add column stored jsonb;
comment on column lineage.past_item.content is 'What `stored` is, of rows that were kept before there was that column.';
do $$ begin
    alter table lineage.past_item alter column stored set compression lz4, alter column base_item set compression lz4;
exception when feature_not_supported then
    null; -- a server that was built without it
end $$;

create or replace function lineage.keep_past_item() returns trigger language plpgsql security definer set search_path = pg_catalog as $$
begin
    -- The base item goes with its collection, so it is kept too. Most collections have one and no row in base_items: then the item, which
    -- has to be unpacked to see which one it was stored against, is left alone.
    insert into lineage.past_item (collection, item_id, geometry, stored, base_item)
    values (old.collection, old.id, old.geometry, old.content,
        case when exists (select from pgstac.base_items as b where b.collection = old.collection)
            then pgstac.collection_base_item(old.collection, (old.content ->> 'pgstac:base_item')::int)
            else (select c.base_item from pgstac.collections as c where c.id = old.collection) end);
    return null;
end $$;
