-- Overview mosaics: pictures of a collection from afar, made of its items' pixels and kept as tiles of WebMercatorQuad, levels 0 to 8 (ADR 58).
-- The finest level is drawn as any tile of the collection, by nobody in particular; coarser ones are made of the four below.

create table federator.overview (
    collection_id text primary key,
    base smallint not null default 8 check (base between 4 and 8),
    hint jsonb,
    style text not null
);
comment on table federator.overview is 'Collections whose pictures from afar are kept. base: the finest level. hint: as what they are drawn when the collection itself '
    'does not say, so that the newest item does not decide anew. style: names the collection''s own hints, see federator.render_style.';

create table federator.overview_tile (
    collection_id text not null references federator.overview on delete cascade,
    level smallint not null,
    x integer not null,
    y integer not null,
    picture bytea,
    partial text,
    primary key (collection_id, level, x, y)
);
alter table federator.overview_tile alter column picture set storage external;
comment on table federator.overview_tile is 'picture: WEBP of 256 x 256 pixels; null: what is there is not for everybody to keep. partial: why it is not whole. '
    'Where nothing is, there is no row.';

create sequence federator.overview_mark;
create table federator.overview_dirty (
    collection_id text not null references federator.overview on delete cascade,
    level smallint not null,
    x integer not null,
    y integer not null,
    is_gone boolean not null,
    mark bigint not null default nextval('federator.overview_mark'),
    taken_until timestamptz,
    primary key (collection_id, level, x, y)
);
create index overview_gone on federator.overview_dirty (collection_id) where is_gone;
create index footprint_gone on federator.footprint_change (collection_id) where step <= 0;
comment on table federator.overview_dirty is 'Tiles to be made anew. is_gone: the kept one may show what is not there any more, so it is not shown. '
    'mark: changes with each reason, so that what was drawn before the last one is not taken for good. taken_until: somebody is drawing it.';

-- Names the hints of a collection.
create function federator.render_style(content jsonb) returns text language sql immutable parallel safe as $$
    select md5(coalesce(content -> 'renders', 'null')::text)
$$;

-- Tiles of the finest level that lie in these cells, of any level, are to be made anew. Rows come in one order everywhere.
create function federator.mark_overviews(in_collection text, levels smallint[], xs integer[], ys integer[], gones boolean[])
returns void language plpgsql as $$
declare
    finest integer;
begin
    select base into finest from federator.overview where collection_id = in_collection for key share;
    if not found then
        return;
    end if;
    insert into federator.overview_dirty as d (collection_id, level, x, y, is_gone)
    select in_collection, finest, place.x, place.y, bool_or(u.gone)
    from unnest(levels, xs, ys, gones) as u (level, x, y, gone)
    cross join lateral generate_series(0, (1 << greatest(finest - u.level, 0)) - 1) as across
    cross join lateral generate_series(0, (1 << greatest(finest - u.level, 0)) - 1) as down
    cross join lateral (select (u.x << greatest(finest - u.level, 0) >> greatest(u.level - finest, 0)) + across as x,
                               (u.y << greatest(finest - u.level, 0) >> greatest(u.level - finest, 0)) + down as y) as place
    group by place.x, place.y order by place.x, place.y
    on conflict (collection_id, level, x, y) do update
    set is_gone = d.is_gone or excluded.is_gone, mark = nextval('federator.overview_mark'), taken_until = null;
end $$;

-- All tiles of a collection's items are to be made anew: from the kept footprints, and those that wait are marked when they are counted.
create function federator.mark_all_overviews(in_collection text) returns void language plpgsql as $$
begin
    perform federator.mark_overviews(in_collection, array_agg(c.level), array_agg(c.x), array_agg(c.y), array_agg(false))
    from federator.footprint_cell as c join federator.overview as o on o.collection_id = c.collection_id
    where c.collection_id = in_collection and (c.level = o.base or (c.level < o.base and c.wide > 0)) having count(*) > 0;
end $$;

-- Begin to keep a collection that everybody may see. The lock waits for footprints that are being counted (add_footprints holds the
-- collection's row), so that none falls between this and the marking.
create function federator.keep_overview(in_collection text) returns boolean language plpgsql as $$
begin
    perform from pgstac.collections where id = in_collection for update;
    if not found or in_collection = any (federator.hidden_collections('{}')) then
        return false;
    end if;
    insert into federator.overview (collection_id, style)
    select id, federator.render_style(content) from pgstac.collections where id = in_collection on conflict do nothing;
    if not found then
        return false;
    end if;
    perform federator.mark_all_overviews(in_collection);
    return true;
end $$;

-- What is to be looked after: collections with tiles to be made. One that is not for everybody any more is forgotten; one that is to be
-- drawn in another way is begun anew.
create function federator.overviews_due() returns table (collection_id text, base integer, hint jsonb) language plpgsql as $$
declare
    changed text;
begin
    delete from federator.overview as o where o.collection_id = any (federator.hidden_collections('{}'));
    for changed in
        select o.collection_id from federator.overview as o join pgstac.collections as c on c.id = o.collection_id
        where o.style <> federator.render_style(c.content) order by 1
    loop
        delete from federator.overview as o where o.collection_id = changed;
        perform federator.keep_overview(changed);
    end loop;
    return query select o.collection_id, o.base::integer, o.hint from federator.overview as o
        where exists (select from federator.overview_dirty as d where d.collection_id = o.collection_id) order by o.collection_id;
end $$;

-- Take tiles to make, neighbours together; whoever takes one has it for a while.
create function federator.take_overviews(in_collection text, in_level integer, most integer, seconds double precision)
returns table (x integer, y integer, mark bigint) language plpgsql as $$
begin
    return query
    update federator.overview_dirty as d set taken_until = clock_timestamp() + make_interval(secs => seconds)
    where (d.collection_id, d.level, d.x, d.y) in (
        select t.collection_id, t.level, t.x, t.y from federator.overview_dirty as t
        where t.collection_id = in_collection and t.level = in_level and (t.taken_until is null or t.taken_until < clock_timestamp())
        order by t.is_gone desc, t.x >> 4, t.y >> 4, t.x >> 2, t.y >> 2, t.x, t.y limit most for update skip locked)
    returning d.x, d.y, d.mark;
end $$;

-- Keep what was made, unless there is a new reason to make it by now; what changes is to be seen from farther away.
create function federator.store_overview(
    in_collection text, in_level integer, in_x integer, in_y integer, in_mark bigint, in_picture bytea, in_partial text)
returns boolean language plpgsql as $$
declare
    gone boolean;
begin
    perform from federator.overview where collection_id = in_collection for key share;
    delete from federator.overview_dirty where collection_id = in_collection and level = in_level and x = in_x and y = in_y and mark = in_mark
    returning is_gone into gone;
    if not found then
        return false;
    end if;
    if in_picture is null and in_partial is null then
        delete from federator.overview_tile where collection_id = in_collection and level = in_level and x = in_x and y = in_y;
    else
        insert into federator.overview_tile as t (collection_id, level, x, y, picture, partial)
        values (in_collection, in_level, in_x, in_y, in_picture, in_partial)
        on conflict (collection_id, level, x, y) do update set picture = excluded.picture, partial = excluded.partial
        where t.picture is distinct from excluded.picture or t.partial is distinct from excluded.partial;
    end if;
    if found and in_level > 0 then
        insert into federator.overview_dirty as d (collection_id, level, x, y, is_gone)
        values (in_collection, in_level - 1, in_x >> 1, in_y >> 1, gone)
        on conflict (collection_id, level, x, y) do update
        set is_gone = d.is_gone or excluded.is_gone, mark = nextval('federator.overview_mark'), taken_until = null;
    end if;
    return true;
end $$;

-- The kept tiles of which a picture is made (one, or with `deeper` 1 the four below), for whom they show all that he may see, and nothing
-- else. No row: draw it. A row without a picture: nothing is there. `pending`: what came lately is not in it yet.
create function federator.overview_at(in_collection text, asking text[], is_signed boolean, z integer, tile_x integer, tile_y integer, deeper integer)
returns table (x integer, y integer, picture bytea, partial text, pending boolean) language plpgsql stable as $$
declare
    kept federator.overview;
    hidden text[] := federator.hidden_collections('{}');
    area constant public.geometry := public.st_transform(public.st_tileenvelope(z, tile_x, tile_y), 4326);
    is_pending boolean := false;
    d integer;
begin
    select o.* into kept from federator.overview as o where o.collection_id = in_collection;
    if not found or z + deeper > kept.base or in_collection = any (hidden)
        or kept.style <> (select federator.render_style(c.content) from pgstac.collections as c where c.id = in_collection) then
        return;
    end if;
    if is_signed then
        asking := federator.present_principals(asking);
    end if;
    if asking <> '{}' and exists (
        select from federator.private_item as p join pgstac.items as i on i.collection = p.collection_id and i.id = p.item_id
        where p.collection_id = in_collection and federator.may_read(p.private, asking) and i.geometry && area) then
        return;
    end if;
    if exists (select from federator.footprint_change as f
               where f.collection_id = in_collection and f.step <= 0 and public.st_geomfromewkb(f.geometry) && area)
        or exists (select from federator.overview_dirty as g where g.collection_id = in_collection and g.is_gone and g.level >= z
                   and g.x >> (g.level - z) = tile_x and g.y >> (g.level - z) = tile_y) then
        return;
    end if;
    for l in z..kept.base loop
        d := l - z;
        is_pending := is_pending or exists (
            select from federator.overview_dirty as g where g.collection_id = in_collection and g.level = l
            and g.x between tile_x << d and ((tile_x + 1) << d) - 1 and g.y between tile_y << d and ((tile_y + 1) << d) - 1);
    end loop;
    return query select t.x, t.y, t.picture, t.partial, is_pending from federator.overview_tile as t
        where t.collection_id = in_collection and t.level = z + deeper
        and t.x between tile_x << deeper and ((tile_x + 1) << deeper) - 1 and t.y between tile_y << deeper and ((tile_y + 1) << deeper) - 1;
    if not found and not is_pending then
        return query select tile_x, tile_y, null::bytea, null::text, false;
    end if;
end $$;

-- While all take more than so many bytes, the collection that takes most loses its finest level, as far as level 4, and then all.
create function federator.thin_overviews(most bigint) returns integer language plpgsql as $$
declare
    total bigint;
    largest text;
    finest integer;
    thinned integer := 0;
begin
    loop
        select sum(s.bytes), (array_agg(s.collection_id order by s.bytes desc))[1] into total, largest
        from (select t.collection_id, sum(coalesce(octet_length(t.picture), 0) + 100) as bytes from federator.overview_tile as t group by 1) as s;
        exit when total is null or total <= most;
        thinned := thinned + 1;
        select base into finest from federator.overview where collection_id = largest for update;
        if finest = 4 or most = 0 then
            delete from federator.overview where collection_id = largest;
            continue;
        end if;
        update federator.overview set base = finest - 1 where collection_id = largest;
        delete from federator.overview_tile where collection_id = largest and level = finest;
        with dirty as (
            delete from federator.overview_dirty where collection_id = largest and level = finest returning x, y, is_gone
        )
        insert into federator.overview_dirty as d (collection_id, level, x, y, is_gone)
        select largest, finest - 1, x >> 1, y >> 1, bool_or(is_gone) from dirty group by x >> 1, y >> 1 order by 3, 4
        on conflict (collection_id, level, x, y) do update
        set is_gone = d.is_gone or excluded.is_gone, mark = nextval('federator.overview_mark'), taken_until = null;
    end loop;
    return thinned;
end $$;

-- An item with another file, time or look at the same place has other pixels; where it was and is, is noted by the trigger of footprints.
create function federator.note_redrawn() returns trigger language plpgsql security definer set search_path = pg_catalog as $$
begin
    if exists (select from federator.overview where collection_id = new.collection)
        and (old.content is distinct from new.content or old.datetime is distinct from new.datetime or old.id is distinct from new.id) then
        insert into federator.footprint_change (collection_id, geometry, step) values (new.collection, public.st_asewkb(new.geometry), 0);
    end if;
    return null;
end $$;
create trigger note_redrawn after update on pgstac.items for each row
when (old.private is null and new.private is null) execute function federator.note_redrawn();

create function federator.forget_overview() returns trigger language plpgsql security definer set search_path = pg_catalog as $$
begin
    delete from federator.overview where collection_id = old.id;
    return null;
end $$;
create trigger forget_overview after delete on pgstac.collections for each row execute function federator.forget_overview();

create function federator.forget_all_overviews() returns trigger language plpgsql security definer set search_path = pg_catalog as $$
begin
    delete from federator.overview;
    return null;
end $$;
create trigger forget_all_overviews after truncate on pgstac.items for each statement execute function federator.forget_all_overviews();

grant select on federator.overview to public;
