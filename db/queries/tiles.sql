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
-- Footprints that have come and gone, and those of some loads; others leave them alone meanwhile.
with loads as (
    delete from federator.footprint_load where id in (
        select id from federator.footprint_load order by id limit 2 for update skip locked
    ) returning collection_id, geometries
), one_by_one as ( -- what has gone had come before: loads are first
    delete from federator.footprint_change where id in (
        select id from federator.footprint_change
        order by id limit case when (select count(*) from loads) < 2 then $1 else 0 end for update skip locked
    ) returning collection_id, geometry, step
)
select collection_id, unnest(geometries) as geometry, 1::smallint as step from loads
union all
select collection_id, geometry, step from one_by_one;

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

-- name: collection_mosaic
-- The collection of a mosaic, if the caller may see it; whether everybody may; as what its overview is drawn; and the principals that its
-- items are read with: of a signer ($3) only what his are worth now.
select federator.collection($1, principals) as content, $1 <> all (federator.hidden_collections('{}')) as is_public, principals,
    (select hint from federator.overview where collection_id = $1) as hint
from (select case when $3 then federator.present_principals($2::text[]) else $2::text[] end as principals) as caller;

-- name: mosaic_rows
-- Items in an area (WKB, null: anywhere) as they are stored; columns as those of `api.item`.
select collection, id, packed, geometry, content, base, is_public
from federator.mosaic_rows($1::jsonb, $2::text[], public.st_geomfromwkb($3::bytea, 4326), $4, $5);

-- name: owners_of_uploads
-- The items whose these uploads are.
select id, collection_id, item_id from federator.upload where id = any ($1::uuid[]);

-- name: register
-- The id of a search.
select federator.register_tile_search($1, $2, $3, $4::jsonb, $5::jsonb, $6, $7) as id;

-- name: search
-- A registered search that the caller may use, and his principals as in `collection_mosaic`.
select t.id, t.search, t.metadata, t.owner, t.is_public, t.created_at, t.used_at, t.use_count, t.used_at < now() - interval '1 hour' as is_stale, principals
from (select case when $3 then federator.present_principals($2::text[]) else $2::text[] end as principals) as caller
join federator.tile_search as t on t.id = $1 and (t.is_public or t.owner = any (principals) or 'role:admin' = any (principals));

-- name: note_use
-- Once an hour: it is kept longer than others of its owner's.
update federator.tile_search set used_at = now(), use_count = use_count + 1 where id = $1 and used_at < now() - interval '1 hour';

-- name: searches
-- Those that the caller registered, and those that persons have made public; an administrator's are all.
select id, search, metadata, owner, is_public, created_at, used_at, use_count
from federator.tile_search
where (owner = any ($1::text[]) or owner is not null and is_public or 'role:admin' = any ($1::text[])) and metadata @> $2::jsonb
order by created_at desc, id limit $3 offset $4;

-- name: count_searches
-- How many these are, on whichever page.
select count(*) as matched from federator.tile_search
where (owner = any ($1::text[]) or owner is not null and is_public or 'role:admin' = any ($1::text[])) and metadata @> $2::jsonb;

-- name: forget_search
-- By whom it belongs to; nobody's by an administrator.
delete from federator.tile_search where id = $1 and (owner = any ($2::text[]) or 'role:admin' = any ($2::text[])) returning id;

-- name: shown_collections
-- Collections that the caller may see and in which he sees items, each with its newest one.
select federator.collection(c.id, $1::text[]) as content, newest.item, newest.is_public
from pgstac.collections as c
cross join lateral federator.mosaic_page(jsonb_build_object('collections', jsonb_build_array(c.id)), $1::text[], null, 1, 0) as newest
where c.id <> all (federator.hidden_collections($1::text[])) and c.content ->> 'type' = 'Collection' order by c.id limit $2;

-- name: kept_overviews
-- Which of these collections are kept as pictures.
select collection_id from federator.overview where collection_id = any ($1::text[]);

-- name: mark_overviews
-- Kept pictures in these cells are to be made anew.
select federator.mark_overviews($1, $2::smallint[], $3::int[], $4::int[], $5::boolean[]);

-- name: keep_overview
-- Begin to keep pictures of a collection.
select federator.keep_overview($1) as is_new;

-- name: overviews_due
-- Collections with pictures to be made.
select collection_id, base, hint from federator.overviews_due();

-- name: take_overviews
-- Tiles to be made, for the caller to make.
select x, y, mark from federator.take_overviews($1, $2, $3, $4);

-- name: store_overview
-- Keep a tile that was made; without a picture and a reason there is nothing.
select federator.store_overview($1, $2, $3, $4, $5, $6, $7) as is_kept;

-- name: leave_overview
-- A tile cannot be made now: again after a while ($6, seconds).
update federator.overview_dirty set taken_until = clock_timestamp() + make_interval(secs => $6)
where collection_id = $1 and level = $2 and x = $3 and y = $4 and mark = $5;

-- name: redraw_overview
-- A tile that is not whole for want of time is made again after a while ($5, seconds).
insert into federator.overview_dirty (collection_id, level, x, y, is_gone, taken_until)
select collection_id, $2, $3, $4, false, clock_timestamp() + make_interval(secs => $5) from federator.overview where collection_id = $1
on conflict do nothing;

-- name: overview_children
-- The four tiles that one is made of.
select x, y, picture, partial from federator.overview_tile
where collection_id = $1 and level = $2 + 1 and x between $3 * 2 and $3 * 2 + 1 and y between $4 * 2 and $4 * 2 + 1;

-- name: overview_at
-- Kept tiles of a picture, for this caller.
select x, y, picture, partial, pending from federator.overview_at($1, $2::text[], $3, $4, $5, $6, $7);

-- name: hint_overview
-- As what a collection is drawn from now on; what was kept of its tiles is not of the same look.
with hinted as (
    update federator.overview set hint = $2::jsonb where collection_id = $1 and hint is null returning collection_id
)
insert into federator.collection_turn as t (collection_id, reckoned) select collection_id, 1 from hinted
on conflict (collection_id) do update set reckoned = t.reckoned + 1;

-- name: thin_overviews
-- Keep all of them within so many bytes.
select federator.thin_overviews($1) as thinned;
