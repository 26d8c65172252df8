-- What tiles are made of, so that a kept one is never older than what it shows.

-- The version of an item: the transactions that wrote its row and its collection's. It changes with every edit and never comes back.
-- Sizes make sure in a database that was put back to an earlier moment, whose transactions are numbered again.
create function federator.item_version(in_collection text, which text) returns text language plpgsql stable as $$
declare
    found text;
begin
    select concat_ws('.', i.xmin, c.xmin, pg_column_size(i.content), pg_column_size(c.content)) into found
    from pgstac.items as i join pgstac.collections as c on c.id = i.collection
    where i.collection = in_collection and i.id = which;
    return found;
end $$;

-- For a tile that may be kept already: version, whether everybody may see the item, uploads that its document names, and those of them that
-- the caller may read. No row when he may not see the item. `known` with `known_named` spares reading the document.
create function federator.tile_state(in_collection text, which text, asking text[], is_signed boolean, known text, known_named uuid[])
returns table (version text, is_public boolean, named uuid[], readable uuid[]) language plpgsql stable as $$
declare
    row_version text;
    row_private jsonb;
begin
    if is_signed then
        asking := federator.present_principals(asking);
    end if;
    if in_collection = any (federator.hidden_collections(asking)) then
        return;
    end if;
    select concat_ws('.', i.xmin, c.xmin, pg_column_size(i.content), pg_column_size(c.content)), i.private into row_version, row_private
    from pgstac.items as i join pgstac.collections as c on c.id = i.collection
    where i.collection = in_collection and i.id = which;
    if not found or (row_private is not null and not federator.may_read(row_private, asking)) then
        return;
    end if;
    if row_version is distinct from known then
        known_named := array(
            select distinct match[1]::uuid from pgstac.items as i, regexp_matches(
                i.content::text, '/uploads/([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})(?![0-9a-f-])', 'gi') as match
            where i.collection = in_collection and i.id = which);
    end if;
    version := row_version;
    is_public := row_private is null and (asking = '{}' or in_collection <> all (federator.hidden_collections('{}')));
    named := known_named;
    readable := '{}';
    if cardinality(named) > 0 then -- most items name their own raster, which whoever sees the item may read
        readable := array(select u.id from federator.upload as u where u.id = any (named) and u.collection_id = in_collection and u.item_id = which);
        if cardinality(readable) < cardinality(named) then
            readable := array(select federator.readable_uploads(named, asking));
        end if;
    end if;
    return next;
end $$;

-- Low zooms: how many footprints are in each cell of a pyramid, per collection, of items that whoever sees the collection may see. Kept by
-- the worker (ingest/overviews) from the changes that the trigger below notes in the transaction that makes them.

create table federator.footprint_change (
    id bigint generated always as identity primary key,
    collection_id text not null,
    geometry bytea not null,
    step smallint not null
);
comment on table federator.footprint_change is 'Footprints that have come (1) and gone (-1) since cells were reckoned last; EWKB.';

create table federator.footprint_cell (
    collection_id text not null,
    level smallint not null,
    x integer not null,
    y integer not null,
    items integer not null,
    wide integer not null default 0,
    primary key (collection_id, level, x, y)
);
comment on table federator.footprint_cell is 'Cells are those of WebMercatorQuad at `level`. wide: items that are too large for cells of finer levels.';

-- Transactions that have changed items of a collection, until the worker adds them up; their number never falls.
create table federator.collection_touch (
    collection_id text not null,
    xact xid8 not null,
    primary key (collection_id, xact)
);
create table federator.collection_turn (
    collection_id text primary key,
    touches bigint not null default 0,
    reckoned bigint not null default 0
);
comment on table federator.collection_turn is 'touches: transactions added up. reckoned: how often cells of the collection were changed.';

create function federator.note_footprint() returns trigger language plpgsql security definer set search_path = pg_catalog as $$
begin
    insert into federator.collection_touch (collection_id, xact)
    values (case when tg_op = 'DELETE' then old.collection else new.collection end, pg_current_xact_id()) on conflict do nothing;
    if tg_op = 'UPDATE' then
        if old.private is null and new.private is null and old.collection = new.collection
            and public.st_asewkb(old.geometry) = public.st_asewkb(new.geometry) then
            return null;
        end if;
    end if;
    if tg_op <> 'INSERT' and old.private is null then
        insert into federator.footprint_change (collection_id, geometry, step) values (old.collection, public.st_asewkb(old.geometry), -1);
    end if;
    if tg_op <> 'DELETE' and new.private is null then
        insert into federator.footprint_change (collection_id, geometry, step) values (new.collection, public.st_asewkb(new.geometry), 1);
    end if;
    return null;
end $$;
create trigger note_footprint after insert or update or delete on pgstac.items for each row execute function federator.note_footprint();

create function federator.forget_footprints() returns trigger language plpgsql security definer set search_path = pg_catalog as $$
begin
    delete from federator.footprint_change where collection_id = old.id;
    delete from federator.footprint_cell where collection_id = old.id;
    insert into federator.collection_touch (collection_id, xact) values (old.id, pg_current_xact_id()) on conflict do nothing;
    return null;
end $$;
create trigger forget_footprints after delete on pgstac.collections for each row execute function federator.forget_footprints();

create function federator.forget_all_footprints() returns trigger language plpgsql security definer set search_path = pg_catalog as $$
begin
    truncate federator.footprint_change, federator.footprint_cell;
    update federator.collection_turn set touches = touches + 1;
    return null;
end $$;
create trigger forget_all_footprints after truncate on pgstac.items for each statement execute function federator.forget_all_footprints();

-- Add to cells; of a collection that is gone by now nothing. Rows come in one order everywhere, so that two workers never wait for each other.
create function federator.add_footprints(in_collection text, levels smallint[], xs integer[], ys integer[], counts integer[], wides integer[])
returns void language plpgsql as $$
begin
    perform from pgstac.collections where id = in_collection for key share;
    if not found then
        return;
    end if;
    insert into federator.collection_turn as t (collection_id, reckoned) values (in_collection, 1)
    on conflict (collection_id) do update set reckoned = t.reckoned + 1;
    insert into federator.footprint_cell as c (collection_id, level, x, y, items, wide)
    select in_collection, u.level, u.x, u.y, u.items, u.wide
    from unnest(levels, xs, ys, counts, wides) as u (level, x, y, items, wide) order by u.level, u.x, u.y
    on conflict (collection_id, level, x, y) do update set items = c.items + excluded.items, wide = c.wide + excluded.wide;
    delete from federator.footprint_cell as c using unnest(levels, xs, ys) as u (level, x, y)
    where c.collection_id = in_collection and c.level = u.level and c.x = u.x and c.y = u.y and c.items = 0 and c.wide = 0;
end $$;

-- Cells of a tile: those of `at_level` in it, and of coarser levels those that hold wide items there.
create function federator.density(in_collection text, z integer, tile_x integer, tile_y integer, at_level integer)
returns table (level integer, x integer, y integer, items integer) language plpgsql stable as $$
declare
    l integer;
    a integer;
begin
    for l in 4..at_level loop
        a := greatest(l - z, 0);
        return query
        select l, c.x, c.y, case when l = at_level then c.items else c.wide end
        from federator.footprint_cell as c
        where c.collection_id = in_collection and c.level = l
            and c.x between (tile_x >> greatest(z - l, 0)) << a and (((tile_x >> greatest(z - l, 0)) + 1) << a) - 1
            and c.y between (tile_y >> greatest(z - l, 0)) << a and (((tile_y >> greatest(z - l, 0)) + 1) << a) - 1
            and (l = at_level or c.wide <> 0);
    end loop;
end $$;

-- For a picture of a collection's items that may be kept already: as federator.tile_state. No row when the caller may not see the collection.
create function federator.collection_tile_state(in_collection text, asking text[], is_signed boolean)
returns table (version text, is_public boolean, principals text[]) language plpgsql stable as $$
begin
    if is_signed then
        asking := federator.present_principals(asking);
    end if;
    if in_collection = any (federator.hidden_collections(asking)) or not exists (select from pgstac.collections where id = in_collection) then
        return;
    end if;
    return query select concat_ws('.', c.xmin, pg_column_size(c.content),
            coalesce(t.touches, 0) + (select count(*) from federator.collection_touch as o where o.collection_id = in_collection), coalesce(t.reckoned, 0)),
        asking = '{}' or in_collection <> all (federator.hidden_collections('{}')), asking
    from pgstac.collections as c left join federator.collection_turn as t on t.collection_id = c.id where c.id = in_collection;
end $$;

insert into federator.footprint_change (collection_id, geometry, step)
select collection, public.st_asewkb(geometry), 1 from pgstac.items where private is null;

grant select on federator.footprint_cell, federator.collection_touch, federator.collection_turn to public;
