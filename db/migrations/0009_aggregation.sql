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

-- The expression whose value tells an item's bucket, null for none. In sight: the columns `collection`, `datetime` and `properties`, and
-- the point `centre`. {kind, property, detail}: detail is the interval, the bounds of ranges, the width of a step, or the precision.
create function federator.bucket_key(wanted jsonb) returns text language plpgsql immutable as $$
declare
    detail text := wanted ->> 'detail';
    number text := format('federator.number(properties -> %L)', wanted ->> 'property');
    on_earth constant text := 'public.st_x(centre) between -180 and 180 and public.st_y(centre) between -90 and 90';
begin
    return case wanted ->> 'kind'
        when 'collection' then 'collection'
        when 'interval' then format('date_trunc(%L, datetime at time zone ''UTC'')', detail)
        -- A text without end would be an answer without end.
        when 'term' then format('case when jsonb_typeof(properties -> %1$L) = ''string'' and length(properties ->> %1$L) <= 256'
            ' then properties ->> %1$L end', wanted ->> 'property')
        when 'range' then format('width_bucket(%s, %L::numeric[])', number, detail)
        when 'histogram' then format('case when abs(%1$s) < 1000000 then floor(%1$s / %2$L) * %2$L end', number, detail::int)
        -- In both, what is not on the Earth is in no cell.
        when 'geohash' then format('case when %s then public.st_geohash(centre, %s) end', on_earth, detail::int)
        -- Column * 2^zoom + row; towards the poles those of the last row.
        when 'geotile' then format('case when %s then least(floor((public.st_x(centre) + 180) / 360 * %2$s), %2$s - 1)::bigint * %2$s'
            ' + least(greatest(floor((0.5 - asinh(tan(radians(least(greatest(public.st_y(centre), -89), 89)))) / (2 * pi())) * %2$s), 0), %2$s - 1)::bigint end',
            on_earth, 1::bigint << detail::int)
    end;
end $$;

-- The expression that makes the bucket's key, as it is answered, of the value of `key`.
create function federator.bucket_label(wanted jsonb, key text) returns text language plpgsql immutable as $$
declare
    tiles bigint := case when wanted ->> 'kind' = 'geotile' then 1::bigint << (wanted ->> 'detail')::int end;
begin
    return case wanted ->> 'kind'
        when 'interval' then format('to_char(%s, ''YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'')', key)
        when 'geotile' then format('%L || %2$s / %3$s || ''/'' || %2$s %% %3$s', (wanted ->> 'detail') || '/', key, tiles)
        else format('%s::text', key)
    end;
end $$;

-- The statement that counts what is wanted of these rows: a row for each bucket with its number in `wanted` and its key, null for items that are
-- in none. Each level is planned by itself (offset 0): so a content is unpacked once an item and not once a bucket, and the planner, which
-- would expect as many buckets as items, hashes and does not sort.
create function federator.counting(wanted jsonb, rows text) returns text language plpgsql immutable as $$
declare
    figures constant text := 'count(*) as frequency, min(datetime) as first, max(datetime) as last';
begin
    if jsonb_array_length(wanted) = 0 then
        return format('select null::int as number, null::text as key, false as is_time, %s from (%s) as i', figures, rows);
    end if;
    return (
        select format('select case %s end as number, case %s end as key, case %s end as is_time, %s'
                ' from (select datetime, %s from (%s offset 0) as i offset 0) as k group by grouping sets (%s)',
            string_agg(format('when %s then %s', is_it, n), ' ' order by n),
            string_agg(format('when %s then %s', is_it, federator.bucket_label(one, 'k' || n)), ' ' order by n),
            string_agg(format('when %s then %L::boolean', is_it, one ->> 'kind' = 'interval'), ' ' order by n),
            figures, string_agg(format('%s as k%s', federator.bucket_key(one), n), ', ' order by n), rows, string_agg(format('(k%s)', n), ', ' order by n))
        from jsonb_array_elements(wanted) with ordinality as w (one, n) cross join lateral format('grouping(k%s) = 0', n) as is_it
    );
end $$;

-- How many items a search finds, when the first and the last begins, and how many are in each bucket of what is wanted, in one pass:
-- {name: {keys, frequencies, overflow}}. Of each those `most` buckets are told, in no order, that hold most, of intervals the newest; overflow
-- is the number of items in the others. A scan of all items pays for parallel workers, which a search does not.
create function federator.aggregate(
    condition text, principals text[], wanted jsonb, most int, out matched bigint, out first text, out last text, out buckets jsonb)
language plpgsql stable set max_parallel_workers_per_gather = 2 set parallel_tuple_cost = 0.01 as $$
declare
    rows text := format('select collection, datetime%s%s from pgstac.items where (%s) and %s',
        case when jsonb_path_exists(wanted, '$[*].property') then ', content -> ''properties'' as properties' end,
        case when jsonb_path_exists(wanted, '$[*] ? (@.kind starts with "geo")') then ', federator.centre(geometry) as centre' end,
        condition, federator.visible(principals));
begin
    execute format('with counted as materialized (%s)
        select coalesce(sum(frequency), 0), to_char(min(first) at time zone ''UTC'', %2$L), to_char(max(last) at time zone ''UTC'', %2$L),
            (select jsonb_object_agg($1 -> (n - 1) ->> ''name'', (
                select jsonb_build_object(''keys'', coalesce(jsonb_agg(key), ''[]''), ''frequencies'', coalesce(jsonb_agg(frequency), ''[]''), ''overflow'',
                    (select coalesce(sum(frequency), 0) from counted where number = n and key is not null) - coalesce(sum(frequency), 0))
                from (select key, frequency from counted where number = n and key is not null
                    order by case when is_time then key end desc, frequency desc, key collate "C" limit $2) as told
            )) from generate_series(1, jsonb_array_length($1)) as n)
        from counted where number is null or number = 1', federator.counting(wanted, rows), 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
    into matched, first, last, buckets using wanted, most;
end $$;
