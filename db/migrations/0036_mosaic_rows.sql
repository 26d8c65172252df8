-- Items of a search as they are stored, for pictures: what pgstac merges into them comes along, and who reads an item merges it. pgstac does
-- it in SQL, in two thirds of the time that a page took, also for those that no picture needs.

-- As federator.mosaic_page, with columns as the statement api.item has them.
create function federator.mosaic_rows(search jsonb, principals text[], area public.geometry, page_limit int, page_offset int)
returns table (collection text, id text, packed bytea, geometry text, content text, base jsonb, is_public boolean) language plpgsql stable as $$
declare
    keys jsonb := case when coalesce(search -> 'sortby', '[]') <> '[]' then federator.sort_keys(search) else federator.newest_first() end;
begin
    return query execute format(
        'select found.collection, found.id, null::bytea, public.st_asgeojson(found.geometry, 20), found.content::text,
            pgstac.collection_base_item(found.collection, (found.content ->> ''pgstac:base_item'')::int),
            found.private is null and found.collection <> all (%L) from (', federator.hidden_collections('{}'))
        || 'select i.* from pgstac.items as i where (' || federator.condition(search - 'sortby') || ') and ' || federator.visible(principals)
        || case when area is not null then format(' and public.st_intersects(geometry, %L::public.geometry)', area) else '' end
        || ' order by ' || federator.order_by(keys) || format(' limit %s offset %s', page_limit, page_offset) || ') as found';
end $$;
