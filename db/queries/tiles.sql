-- name: item_state
-- What a tile of an item is made of, for this caller: no row when he may not see it. $5 and $6: the version that is known, and what it names.
select version, is_public, named, readable from federator.tile_state($1, $2, $3::text[], $4, $5, $6::uuid[]);

-- name: collection_state
-- The same of all items of a collection together.
select version, is_public, principals from federator.collection_tile_state($1, $2::text[], $3);

-- name: cluster
-- What tells this database apart from others, and from itself before it was restored from a backup.
select concat_ws('-', s.system_identifier, c.timeline_id, d.oid) as name
from pg_control_system() as s, pg_control_checkpoint() as c, pg_database as d where d.datname = current_database();

-- name: density
-- Cells of a tile, of items that whoever sees the collection may see.
select level, x, y, items from federator.density($1, $2, $3, $4, $5);

-- name: footprints_within
-- Footprints within a tile of WebMercatorQuad ($2, $3, $4) that the caller may see; with $6 only those that not everybody may who sees the
-- collection. The caller is known to see the collection.
select public.st_asbinary(geometry) as geometry from pgstac.items
where collection = $1 and geometry && public.st_transform(public.st_tileenvelope($2, $3, $4), 4326)
    and case when $6 then private is not null and federator.may_read(private, $5::text[]) else private is null or federator.may_read(private, $5::text[]) end
limit $7;

-- name: density_mvt
-- Cells as a vector tile, each with its number of items.
select public.st_asmvt(cell, 'density', 4096, 'geometry') as tile from (
    select u.items, public.st_asmvtgeom(public.st_tileenvelope($4, u.x, u.y), public.st_tileenvelope($1, $2, $3), 4096, 0, true) as geometry
    from unnest($5::int[], $6::int[], $7::int[]) as u (x, y, items)
) as cell;

-- name: take_footprint_changes
-- Footprints that have come and gone; others leave them alone meanwhile.
delete from federator.footprint_change where id in (
    select id from federator.footprint_change order by id limit $1 for update skip locked
) returning collection_id, geometry, step;

-- name: add_footprints
-- Add to cells.
select federator.add_footprints($1, $2::smallint[], $3::int[], $4::int[], $5::int[], $6::int[]);

-- name: add_up_touches
-- Transactions that have changed items become numbers; the sum is the same before and after.
with gone as (
    delete from federator.collection_touch where (collection_id, xact) in (
        select collection_id, xact from federator.collection_touch order by collection_id, xact limit 1000 for update skip locked
    ) returning collection_id
)
insert into federator.collection_turn as t (collection_id, touches)
select collection_id, count(*) from gone group by collection_id order by collection_id
on conflict (collection_id) do update set touches = t.touches + excluded.touches;
