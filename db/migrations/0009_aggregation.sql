-- Aggregations over what a search finds (aggregation extension 0.3.0): one pass over the rows for all that are asked for.

-- Where grids put an item: the centroid of its footprint, in degrees. The parts of one that was cut at the antimeridian (RFC 7946, 3.1.9) are
-- put together before; the centroid of the parts as they are would lie on the other side of the Earth.
create function federator.centre(footprint public.geometry) returns public.geometry language sql immutable parallel safe as $$
    select case when public.st_numgeometries(footprint) > 1 and public.st_xmax(footprint) - public.st_xmin(footprint) > 180
        and public.st_xmax(public.st_shiftlongitude(footprint)) - public.st_xmin(public.st_shiftlongitude(footprint)) < 180
        then public.st_wrapx(public.st_centroid(public.st_shiftlongitude(footprint)), 180, -360)
        else public.st_centroid(footprint) end
$$;

-- A JSON number, and nothing else.
create function federator.number(value jsonb) returns numeric language sql immutable parallel safe as $$
    select case when jsonb_typeof(value) = 'number' then value::numeric end
$$;

-- Grids: geohash (base 32, `detail` characters: a bit of longitude, one of latitude, and so on; rows from south) and geotile (tiles of web
-- maps at zoom `detail`; rows from north, the first and the last reach to the poles). Functions of one expression, which are inlined.
create function federator.grid_columns(grid text, detail int) returns bigint language sql immutable parallel safe as $$
    select 1::bigint << case grid when 'geotile' then detail else (5 * detail + 1) / 2 end
$$;

create function federator.grid_rows(grid text, detail int) returns bigint language sql immutable parallel safe as $$
    select 1::bigint << case grid when 'geotile' then detail else 5 * detail / 2 end
$$;

create function federator.grid_column(grid text, detail int, longitude float8) returns bigint language sql immutable parallel safe as $$
    select least(greatest(floor((longitude + 180) / 360 * federator.grid_columns(grid, detail)), 0), federator.grid_columns(grid, detail) - 1)::bigint
$$;

create function federator.grid_row(grid text, detail int, latitude float8) returns bigint language sql immutable parallel safe as $$
    select least(greatest(floor(federator.grid_rows(grid, detail) * case grid
        when 'geotile' then 0.5 - asinh(tan(radians(least(greatest(latitude, -89), 89)))) / (2 * pi())
        else (latitude + 90) / 180 end), 0), federator.grid_rows(grid, detail) - 1)::bigint
$$;

-- The latitude at which so many rows of tiles, from north, end.
create function federator.tile_edge(detail int, number bigint) returns float8 language sql immutable parallel safe as $$
    select case number when 0 then 90 when 1::bigint << detail then -90
        else degrees(atan(sinh(pi() * (1 - 2.0::float8 * number / (1::bigint << detail))))) end
$$;

create function federator.grid_box(grid text, detail int, x bigint, y bigint) returns public.geometry language sql immutable parallel safe as $$
    select public.st_makeenvelope(
        x * 360.0::float8 / federator.grid_columns(grid, detail) - 180,
        case grid when 'geotile' then federator.tile_edge(detail, y + 1) else y * 180.0::float8 / federator.grid_rows(grid, detail) - 90 end,
        (x + 1) * 360.0::float8 / federator.grid_columns(grid, detail) - 180,
        case grid when 'geotile' then federator.tile_edge(detail, y) else (y + 1) * 180.0::float8 / federator.grid_rows(grid, detail) - 90 end,
        4326)
$$;

-- Cells of these columns and rows that a footprint meets, as column * rows + row.
create function federator.grid_cells(grid text, detail int, footprint public.geometry, west bigint, east bigint, low bigint, high bigint)
returns setof bigint language sql immutable parallel safe as $$
    select x * federator.grid_rows(grid, detail) + y
    from generate_series(west, east) as x cross join generate_series(low, high) as y
    where public.st_intersects(footprint, federator.grid_box(grid, detail, x, y))
$$;

-- The name of a cell, which is known by column * rows + row: a number is grouped faster than a text.
create function federator.grid_key(grid text, detail int, cell bigint) returns text language sql immutable parallel safe as $$
    select case grid
        when 'geotile' then detail::text || '/' || (cell / federator.grid_rows(grid, detail))::text || '/' || (cell % federator.grid_rows(grid, detail))::text
        else public.st_geohash(public.st_setsrid(public.st_makepoint(
            (cell / federator.grid_rows(grid, detail) + 0.5::float8) * 360 / federator.grid_columns(grid, detail) - 180,
            (cell % federator.grid_rows(grid, detail) + 0.5::float8) * 180 / federator.grid_rows(grid, detail) - 90), 4326), detail) end
$$;

-- The expression whose value tells an item's bucket, null for none. In sight: the columns `collection`, `datetime` and `properties`, and
-- the point `centre`. {kind, property, grid, detail}: detail is the interval, the bounds of ranges, the width of a step, or the precision.
create function federator.bucket_key(wanted jsonb) returns text language plpgsql immutable as $$
declare
    detail text := wanted ->> 'detail';
    number text := format('federator.number(properties -> %L)', wanted ->> 'property');
begin
    return case wanted ->> 'kind'
        when 'collection' then 'collection'
        when 'interval' then format('date_trunc(%L, datetime at time zone ''UTC'')', detail)
        -- A text without end would be an answer without end.
        when 'term' then format('case when jsonb_typeof(properties -> %1$L) = ''string'' and length(properties ->> %1$L) <= 256'
            ' then properties ->> %1$L end', wanted ->> 'property')
        when 'range' then format('width_bucket(%s, %L::numeric[])', number, detail)
        when 'histogram' then format('case when abs(%1$s) < 1000000 then floor(%1$s / %2$L) * %2$L end', number, detail::int)
        -- What is not on the Earth is in no cell.
        when 'centre' then format('case when public.st_x(centre) between -180 and 180 and public.st_y(centre) between -90 and 90'
            ' then federator.grid_column(%1$L, %2$s, public.st_x(centre)) * federator.grid_rows(%1$L, %2$s) + federator.grid_row(%1$L, %2$s, public.st_y(centre)) end',
            wanted ->> 'grid', detail::int)
    end;
end $$;

-- The expression that makes the bucket's key, as it is answered, of the value of `key`.
create function federator.bucket_label(wanted jsonb, key text) returns text language plpgsql immutable as $$
begin
    return case wanted ->> 'kind'
        when 'interval' then format('to_char(%s, ''YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'')', key)
        when 'centre' then format('federator.grid_key(%L, %s, %s)', wanted ->> 'grid', (wanted ->> 'detail')::int, key)
        else format('%s::text', key)
    end;
end $$;

-- The statement that counts, of these rows, all and those in each bucket of what is wanted, where each item is in one at most. It gives a row for
-- each bucket with its number in `wanted` and its key, null for items that are in none; the row of all has no number. Each level is planned
-- by itself (offset 0): so a content is unpacked once an item and not once a bucket, and the planner, which would expect as many
-- buckets as items, hashes and does not sort.
create function federator.counting(wanted jsonb, rows text) returns text language plpgsql immutable as $$
begin
    return (
        select format('select case when false then 0 %s end as number, case when false then '''' %s end as key, case when false then false %s end as is_time,'
                ' count(*) as frequency, min(datetime) as first, max(end_datetime) as last'
                ' from (select datetime, end_datetime %s from (%s offset 0) as i offset 0) as k group by grouping sets (() %s)',
            string_agg(format('when %s then %s', is_it, n), ' ' order by n),
            string_agg(format('when %s then %s', is_it, federator.bucket_label(one, 'k' || n)), ' ' order by n),
            string_agg(format('when %s then %L::boolean', is_it, one ->> 'kind' = 'interval'), ' ' order by n),
            string_agg(format(', %s as k%s', federator.bucket_key(one), n), '' order by n), rows,
            string_agg(format(', (k%s)', n), '' order by n))
        from jsonb_array_elements(wanted) with ordinality as w (one, n) cross join lateral format('grouping(k%s) = 0', n) as is_it
        where one ->> 'kind' <> 'footprint'
    );
end $$;

-- The statement that counts the geometries of these rows in the cells that they meet, as number `n` of what is wanted. An item is in every cell that
-- its footprint meets, so this takes a pass of its own. Most footprints lie in one cell, which their box tells; one of a single part meets each
-- cell once; of others (cut at the antimeridian) they are told apart. In none (null) is one that may meet more than 1024: that would be
-- work without end. The conditions of the branches are looked at before their work; offset 0 keeps values from being reckoned twice.
create function federator.counting_footprints(grid text, detail int, n int, rows text) returns text language plpgsql immutable as $$
declare
    box constant text := 'public.st_xmin(geom) as xmin, public.st_ymin(geom) as ymin, public.st_xmax(geom) as xmax, public.st_ymax(geom) as ymax';
    span constant text := format('federator.grid_column(%1$L, %2$s, xmin) as west, federator.grid_column(%1$L, %2$s, xmax) as east,'
        ' federator.grid_row(%1$L, %2$s, %3$s) as low, federator.grid_row(%1$L, %2$s, %4$s) as high',
        grid, detail, case grid when 'geotile' then 'ymax' else 'ymin' end, case grid when 'geotile' then 'ymin' else 'ymax' end);
    size constant text := '(east - west + 1)::float8 * (high - low + 1)';
begin
    return format($sql$
        select %3$s, federator.grid_key(%1$L, %2$s, cell), false, count(*), null, null
        from (
            select *, %7$s as size, public.st_numgeometries(geom) > 1 as is_multiple
            from (
                select geom, %6$s from (select geom, %5$s from (%4$s) as i offset 0) as i
                where xmin <= 180 and xmax >= -180 and ymin <= 90 and ymax >= -90 offset 0 -- on the Earth
            ) as i offset 0
        ) as i cross join lateral (
            select west * federator.grid_rows(%1$L, %2$s) + low as cell where size = 1
            union all
            select c from federator.grid_cells(%1$L, %2$s, geom, west, east, low, high) as c where size between 2 and 1024 and not is_multiple
            union all
            select null where size > 1024 and not is_multiple
            union all
            select distinct c from (
                select *, sum(%7$s) over () as all_sizes
                from (select geom, %6$s from (select geom, %5$s from public.st_dump(i.geom) offset 0) as p offset 0) as p offset 0
            ) as p cross join lateral (
                select c from federator.grid_cells(%1$L, %2$s, geom, west, east, low, high) as c where all_sizes <= 1024
                union all
                select null where all_sizes > 1024 offset 0
            ) as met where size > 1 and is_multiple
            offset 0
        ) as met group by cell$sql$, grid, detail, n, rows, box, span, size);
end $$;

-- How many items a search finds, when the first begins and the last ends, and how many are in each bucket of what is wanted:
-- {name: {keys, frequencies, overflow}}. Of each those `most` buckets are told, in no order, that hold most, of intervals the newest; overflow
-- is the number of items in the others. A scan of all items pays for parallel workers, which a search does not.
create function federator.aggregate(
    condition text, principals text[], wanted jsonb, most int, out matched bigint, out first text, out last text, out buckets jsonb)
language plpgsql stable set max_parallel_workers_per_gather = 2 set parallel_tuple_cost = 0.01 as $$
declare
    found text := format('from pgstac.items where (%s) and %s', condition, federator.visible(principals));
    rows text := format('select collection, datetime, end_datetime%s%s %s',
        case when jsonb_path_exists(wanted, '$[*].property') then ', content -> ''properties'' as properties' end,
        case when jsonb_path_exists(wanted, '$[*] ? (@.kind == "centre")') then ', federator.centre(geometry) as centre' end, found);
    counted text := concat_ws(' union all ', federator.counting(wanted, rows), (
        select string_agg(federator.counting_footprints(one ->> 'grid', (one ->> 'detail')::int, n::int, 'select geometry as geom ' || found), ' union all ')
        from jsonb_array_elements(wanted) with ordinality as w (one, n) where one ->> 'kind' = 'footprint'));
begin
    execute format('with counted as materialized (%s)
        select frequency, to_char(first at time zone ''UTC'', %2$L), to_char(last at time zone ''UTC'', %2$L),
            (select jsonb_object_agg(one ->> ''name'', (
                select jsonb_build_object(''keys'', coalesce(jsonb_agg(key), ''[]''), ''frequencies'', coalesce(jsonb_agg(frequency), ''[]''), ''overflow'',
                    (select coalesce(sum(frequency), 0) from counted where number = n and (key is not null or one ->> ''kind'' = ''footprint''))
                    - coalesce(sum(frequency), 0))
                from (select key, frequency from counted where number = n and key is not null
                    order by case when is_time then key end desc, frequency desc, key collate "C" limit $2) as told
            )) from jsonb_array_elements($1) with ordinality as w (one, n))
        from counted where number is null', counted, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
    into matched, first, last, buckets using wanted, most;
end $$;
