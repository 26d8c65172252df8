-- Queryables, sortables, extents and summaries from what items really have; operators of CQL2 that pgstac lacks; indexes that a collection's
-- file asks for; which source offers which collection.

-- What the items of a collection have (ingest/summaries.py); writers widen it with each page, in the page's transaction. Private items are
-- in none. Made anew in slices by the worker: while that goes on, `rebuilding` holds what the slices up to `reached` have, and writers widen
-- it too.
create table federator.collection_summary (
    collection_id text primary key references pgstac.collections (id) on delete cascade on update cascade,
    -- Null: not known yet, its items are to be read first.
    summary jsonb,
    rebuilding jsonb,
    reached_datetime timestamptz,
    reached_id text,
    -- Deletions and updates of its partitions when the summary was last begun anew, as PostgreSQL counts them.
    churn bigint not null default 0,
    -- Null: to be made anew as soon as may be.
    rebuilt_at timestamptz default now()
);
comment on table federator.collection_summary is 'Types, values and ranges of the properties of a collection''s public items, where and when they are.';
insert into federator.collection_summary (collection_id, rebuilt_at)
select distinct collection, null::timestamptz from pgstac.partition_stats;

-- The channel hears "summaries" of changes that leave collections and queryables of pgstac alone: kept documents are old, plans are not.
create function federator.tell_summaries_changed() returns trigger language plpgsql security definer set search_path = pg_catalog as $$
begin
    perform pg_notify('federator_catalogue', 'summaries');
    return null;
end $$;
create trigger tell_summary_made after insert on federator.collection_summary
    for each row execute function federator.tell_summaries_changed();
create trigger tell_summary_changed after update of summary on federator.collection_summary
    for each row when (old.summary is distinct from new.summary) execute function federator.tell_summaries_changed();

-- An item that not everybody may see any more must leave the summary soon.
create function federator.forget_private() returns trigger language plpgsql security definer set search_path = pg_catalog as $$
begin
    update federator.collection_summary set rebuilt_at = null where collection_id = new.collection and rebuilt_at is not null;
    return null;
end $$;
create trigger forget_private after update of private on pgstac.items
    for each row when (new.private is not null and current_setting('federator.putting_readers', true) is distinct from 'on')
    execute function federator.forget_private();

-- Who may read items that were written anew, as before: the summary never knew them.
create function federator.put_readers(which text, ids text[], privates text[]) returns void language plpgsql as $$
begin
    perform set_config('federator.putting_readers', 'on', true);
    update pgstac.items as i set private = kept.private::jsonb
    from unnest(ids, privates) as kept (id, private)
    where i.collection = which and i.id = kept.id;
    perform set_config('federator.putting_readers', 'off', true);
end $$;

-- Collections as they are shown: extent and summaries of those that have items are those of their items. An end that the collection leaves
-- open stays open. What it says of properties that items do not have themselves (of bands, of assets) stays too.
create function federator.described(content jsonb, summary jsonb) returns jsonb language plpgsql immutable parallel safe as $$
declare
    told jsonb := content -> 'summaries';
begin
    if summary is null or summary -> 'properties' = '{}' then
        return content;
    end if;
    if jsonb_typeof(told) is distinct from 'object' then
        told := '{}';
    end if;
    told := told || coalesce((
        select jsonb_object_agg(name, case
            when one ? 'values' then one -> 'values'  -- of properties of one type: some items' texts among numbers sum nothing up
            when one -> 'items' ? 'values' then one -> 'items' -> 'values'
            else jsonb_build_object('minimum', one -> 'minimum', 'maximum', one -> 'maximum') end)
        from jsonb_each(summary -> 'properties') as p (name, one)
        where (one ? 'values' or one -> 'items' ? 'values') and jsonb_array_length(one -> 'types') = 1 or one -> 'types' <@ '["integer", "number"]'
    ), '{}');
    content := content || jsonb_build_object('summaries', told);
    if summary ? 'bbox' then
        content := jsonb_set(content, '{extent,spatial}', jsonb_build_object('bbox', jsonb_build_array(summary -> 'bbox')));
    end if;
    if summary ? 'interval' then
        content := jsonb_set(content, '{extent,temporal}', jsonb_build_object('interval', jsonb_build_array(jsonb_build_array(
            summary -> 'interval' -> 0,
            case when jsonb_typeof(content #> '{extent,temporal,interval,0,1}') = 'string' then summary -> 'interval' -> 1 end))));
    end if;
    return content;
end $$;

-- As pgstac.collections_asitems, with what is shown.
create view federator.collections_asitems as
select c.id,
    case when c.summary ? 'bbox' then public.st_makeenvelope((c.summary #>> '{bbox,0}')::float, (c.summary #>> '{bbox,1}')::float,
        (c.summary #>> '{bbox,2}')::float, (c.summary #>> '{bbox,3}')::float, 4326) else c.geometry end as geometry,
    'collections' as collection,
    case when c.summary ? 'interval' then (c.summary #>> '{interval,0}')::timestamptz else c.datetime end as datetime,
    case when c.summary ? 'interval' and jsonb_typeof(c.shown #> '{extent,temporal,interval,0,1}') = 'string'
        then (c.summary #>> '{interval,1}')::timestamptz else c.end_datetime end as end_datetime,
    jsonb_build_object(
        'properties', c.shown - '{links,assets,stac_version,stac_extensions}'::text[], 'links', c.shown -> 'links', 'assets', c.shown -> 'assets',
        'stac_version', c.shown -> 'stac_version', 'stac_extensions', c.shown -> 'stac_extensions') as content,
    c.shown as collectionjson
from (
    select c.id, c.geometry, c.datetime, c.end_datetime, s.summary, federator.described(c.content, s.summary) as shown
    from pgstac.collections as c left join federator.collection_summary as s on s.collection_id = c.id
    offset 0
) as c;

-- As before (0008_search.sql), of what is shown.
create or replace function federator.collections(search jsonb, principals text[]) returns table (content jsonb, matched bigint)
language plpgsql stable as $$
declare
    condition text := format('(%s) and collectionjson ->> ''type'' = ''Collection'' and id <> all (%L)',
        pgstac.stac_search_to_where(search), federator.hidden_collections(principals));
begin
    return query execute format(
        'select pgstac.jsonb_fields(collectionjson, %L), count(*) over () from federator.collections_asitems where %s order by %s limit %s offset %s',
        coalesce(search -> 'fields', '{}'), condition, pgstac.sort_sqlorderby(search, false, '{id}'),
        pgstac.search_limit(search), pgstac.search_offset(search));
end $$;
create or replace function federator.count_collections(search jsonb, principals text[]) returns bigint language plpgsql stable as $$
declare
    found bigint;
begin
    execute format('select count(*) from federator.collections_asitems where (%s) and collectionjson ->> ''type'' = ''Collection'' and id <> all (%L)',
        pgstac.stac_search_to_where(search), federator.hidden_collections(principals)) into found;
    return found;
end $$;
create or replace function federator.collection(which text, principals text[]) returns jsonb language sql stable as $$
    select federator.described(c.content, s.summary)
    from pgstac.collections as c left join federator.collection_summary as s on s.collection_id = c.id
    where c.id = which and c.content ->> 'type' = 'Collection' and which <> all (federator.hidden_collections(principals))
$$;

-- Queryables of pgstac that stand for all collections in as many rows as it takes to index some of them (federator.arrange_queryables).
create table federator.shared_queryable (
    name text primary key,
    definition jsonb,
    property_wrapper text,
    property_path text[]
);

-- What is known of the properties of these collections, or (null) of all that the caller may see: how pgstac reads them
-- ([{name, definition, everywhere}]), what items have ([summary]), and whether further names may be used. No row: there is no such collection.
drop function federator.queryables(text, text[]);
create function federator.property_facts(which text[], principals text[])
returns table (collections text[], registered jsonb, summaries jsonb, is_open boolean) language plpgsql stable as $$
declare
    seen text[] := array(
        select id from pgstac.collections
        where (which is null or id = any (which)) and content ->> 'type' = 'Collection' and id <> all (federator.hidden_collections(principals))
        order by id);
begin
    if which is not null and cardinality(seen) = 0 then
        return;
    end if;
    return query select seen,
        (select coalesce(jsonb_agg(jsonb_build_object('name', q.name, 'definition', coalesce(q.definition, '{}'), 'everywhere', q.everywhere)
            order by q.everywhere, q.id), '[]')
            from (
                select r.*, r.collection_ids is null or exists (select from federator.shared_queryable as s where s.name = r.name) as everywhere
                from pgstac.queryables as r where r.collection_ids is null or r.collection_ids && seen
            ) as q),
        (select coalesce(jsonb_agg(s.summary order by s.collection_id), '[]') from federator.collection_summary as s where s.collection_id = any (seen)),
        pgstac.additional_properties();
end $$;

-- As before (0008_search.sql); properties that are not registered are sorted as the JSON they are: numbers as numbers.
create or replace function federator.sort_keys(search jsonb) returns jsonb language sql stable as $$
    with keys as (
        select number, case when q.registered then q.expression else q.path end as expression,
            pgstac.parse_sort_dir(one ->> 'direction') = 'DESC' as descending, q.wrapper is not null as nullable
        from jsonb_array_elements(pgstac.sortby_with_tiebreakers(search -> 'sortby')) with ordinality as t (one, number)
        cross join lateral pgstac.queryable(one ->> 'field', nullif(pgstac.to_text_array(search -> 'collections'), '{}')) as q
    )
    select jsonb_agg(jsonb_build_object('expression', expression, 'descending', descending, 'nullable', nullable) order by number)
    from keys
    where number <= greatest(
        (select min(number) from keys where expression = 'id'), (select min(number) from keys where expression = 'collection'))
$$;

-- Integers are compared as numbers ("< 9.5"), times as times.
select pgstac.upsert_queryable(
    name => q.name, definition => q.definition, property_index_type => q.property_index_type,
    property_wrapper => case when q.definition ->> 'format' = 'date-time' then null else 'to_float' end)
from pgstac.queryables as q
where q.collection_ids is null and (
    (q.name in ('sat:absolute_orbit', 'sat:relative_orbit') and q.property_wrapper = 'to_int')
    or (q.name in ('created', 'updated', 'published') and q.property_wrapper = 'to_text'));

-- A text as a number; null for one that is none.
create function federator.as_number(value text) returns double precision language sql immutable parallel safe as $$
    select case when value ~ '^\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d{1,2})?\s*$' then value::double precision end
$$;
create function federator.as_number(value double precision) returns double precision language sql immutable parallel safe as $$
    select value
$$;

-- Whether two JSON arrays have an element in common; null when one is no array.
create function federator.shares_element(one jsonb, other jsonb) returns boolean language sql immutable strict parallel safe as $$
    select case when jsonb_typeof(one) = 'array' and jsonb_typeof(other) = 'array'
        then exists (select from jsonb_array_elements(one) as e (value) where other @> jsonb_build_array(e.value)) end
$$;

-- Operators beside pgstac's own, for filters as api/stac/filters.py writes them. The last argument of federator_json_* is the column id:
-- beside a column that is a text pgstac gives properties as the JSON they are.
insert into pgstac.cql2_ops (op, template) values
    ('federator_never', '(false and %s is null)'),
    ('federator_concat', '(%s || %s)'),
    ('federator_number', 'federator.as_number(%s)'),
    ('federator_add', '(%s + %s)'),
    ('federator_subtract', '(%s - %s)'),
    ('federator_multiply', '(%s * %s)'),
    ('federator_divide', '(%s / nullif(%s, 0))'),
    ('federator_power', 'power(%s, %s)'),
    ('federator_modulo', 'mod((%s)::numeric, nullif((%s)::numeric, 0))::double precision'),
    ('federator_div', 'trunc(%s / nullif(%s, 0))'),
    ('federator_json_eq', '(nullif(to_jsonb(%s), ''null'') = nullif(to_jsonb(%s), ''null'') and %s is not null)'),
    ('federator_json_ne', '(nullif(to_jsonb(%s), ''null'') <> nullif(to_jsonb(%s), ''null'') and %s is not null)'),
    ('federator_json_lt', '(nullif(to_jsonb(%s), ''null'') < nullif(to_jsonb(%s), ''null'') and %s is not null)'),
    ('federator_json_gt', '(nullif(to_jsonb(%s), ''null'') > nullif(to_jsonb(%s), ''null'') and %s is not null)'),
    ('federator_json_le', '(nullif(to_jsonb(%s), ''null'') <= nullif(to_jsonb(%s), ''null'') and %s is not null)'),
    ('federator_json_ge', '(nullif(to_jsonb(%s), ''null'') >= nullif(to_jsonb(%s), ''null'') and %s is not null)'),
    ('federator_json_contains', '((%s)::jsonb @> (%s)::jsonb and %s is not null)'),
    ('federator_json_containedby', '((%s)::jsonb <@ (%s)::jsonb and %s is not null)'),
    ('federator_json_overlaps', '(federator.shares_element((%s)::jsonb, (%s)::jsonb) and %s is not null)')
on conflict (op) do update set template = excluded.template;

-- Sources and the collections that were ever harvested from them, one index probe a pair.
create function federator.harvested() returns table (source_id text, collection_id text) language sql stable as $$
    with recursive pair as (
        (select r.source_id, r.collection_id from federator.harvest_run as r order by r.source_id, r.collection_id limit 1)
        union all
        select next.* from pair cross join lateral (
            select r.source_id, r.collection_id from federator.harvest_run as r
            where (r.source_id, r.collection_id) > (pair.source_id, pair.collection_id) order by r.source_id, r.collection_id limit 1
        ) as next
    )
    select * from pair
$$;

-- Which source offers which collection, of those that the caller may see: what was harvested, and what a collection says of itself.
create function federator.offers(principals text[]) returns table (source_id text, collection_id text) language sql stable as $$
    select source_id, collection_id from (
        select h.source_id, h.collection_id from federator.harvested() as h join pgstac.collections as c on c.id = h.collection_id
        union
        select backend, c.id from pgstac.collections as c
        cross join lateral jsonb_array_elements_text(
            case jsonb_typeof(c.content -> 'federation:backends') when 'array' then c.content -> 'federation:backends' end) as backend
    ) as o
    where collection_id <> all (federator.hidden_collections(principals))
    order by source_id, collection_id
$$;

-- How each source that was ever asked answers: offline while its breaker has not closed, or when the newest finished runs of all its
-- collections have failed.
create function federator.backends() returns table (source_id text, is_offline boolean, checked_at timestamptz, answered_at timestamptz)
language sql stable as $$
    select h.source_id, coalesce(u.open_until is not null, false) or coalesce(bool_and(last.status = 'failed'), false),
        max(last.finished_at), max(good.finished_at)
    from federator.harvested() as h
    left join federator.upstream as u on u.source_id = h.source_id
    left join lateral (
        select r.status, r.finished_at from federator.harvest_run as r
        where r.source_id = h.source_id and r.collection_id = h.collection_id and r.status in ('done', 'failed') order by r.id desc limit 1
    ) as last on true
    left join lateral (
        select r.finished_at from federator.harvest_run as r
        where r.source_id = h.source_id and r.collection_id = h.collection_id and r.status = 'done' order by r.id desc limit 1
    ) as good on true
    group by h.source_id, u.open_until
$$;

-- Kept documents name sources: they are old when one is new, and when one comes or goes.
create function federator.tell_run_changed() returns trigger language plpgsql security definer set search_path = pg_catalog as $$
begin
    if not exists (
        select from (
            select r.status from federator.harvest_run as r
            where r.source_id = new.source_id and r.collection_id = new.collection_id and r.id < new.id
                and (new.status = 'running' or r.status in ('done', 'failed'))
            order by r.id desc limit 1
        ) as before
        where new.status = 'running' or before.status = new.status
    ) then
        perform pg_notify('federator_catalogue', 'summaries');
    end if;
    return null;
end $$;
create trigger tell_run_changed after insert or update of status on federator.harvest_run
    for each row execute function federator.tell_run_changed();
create trigger tell_breaker_changed after update of open_until on federator.upstream
    for each row when ((old.open_until is null) <> (new.open_until is null)) execute function federator.tell_summaries_changed();

-- The operator's collection files (ingest/operator_files.py): what they change in our documents, or whole documents.
create table federator.collection_file (
    collection_id text primary key,
    patch jsonb not null
);
comment on table federator.collection_file is 'Merge patches (RFC 7396) of collections, with the members "queryables" and "index" that are for us.';

-- What those files ask of pgstac's queryables.
create function federator.wanted_queryables() returns table (collection_id text, name text, definition jsonb, is_indexed boolean)
language sql stable as $$
    select f.collection_id, n.name, f.patch -> 'queryables' -> n.name, coalesce(f.patch -> 'index' ? n.name, false)
    from federator.collection_file as f
    join pgstac.collections as c on c.id = f.collection_id
    cross join lateral (
        select pgstac.strip_properties_prefix(jsonb_object_keys(coalesce(f.patch -> 'queryables', '{}')))
        union
        select pgstac.strip_properties_prefix(jsonb_array_elements_text(coalesce(f.patch -> 'index', '[]')))
    ) as n (name)
    where pgstac.queryable_column(n.name) is null
$$;

-- How the queryables of a name stand that files have asked for: {"wanted": [...], "rest": [other collections]}.
create table federator.arranged_queryable (
    name text primary key,
    state jsonb not null
);

-- As pgstac reads a property by its definition, but integers as numbers ("< 9.5").
create function federator.wrapper_of(definition jsonb) returns text language sql immutable parallel safe as $$
    select case when definition -> 'type' ? 'integer' then 'to_float' else pgstac.queryable_wrapper(null, definition) end
$$;

-- The definition of a property that nobody has defined, by what items have.
create function federator.found_definition(in_collection text, property text) returns jsonb language sql stable as $$
    select case
        when types ? 'array' then '{"type": "array"}'::jsonb
        when types ?| '{integer,number}' then '{"type": "number"}'
        when types = '["date-time"]' then '{"type": "string", "format": "date-time"}'
        else '{"type": "string"}' end
    from (
        select (select s.summary #> array['properties', property, 'types'] from federator.collection_summary as s where s.collection_id = in_collection) as types
    ) as t
$$;

-- Brings pgstac's queryables, and with them its indexes, to what the operator's files ask. Indexes are built and dropped by pgstac's queue.
-- A queryable of all collections of which some are to be indexed becomes one row for each of these and one for the others.
create function federator.arrange_queryables() returns setof text language plpgsql as $$
declare
    n record;
    w record;
    shared federator.shared_queryable;
    stale record;
    paired text[];
begin
    perform set_config('pgstac.use_queue', 'true', true);
    for n in
        with wanted as materialized (select * from federator.wanted_queryables()), names as (
            select name from wanted union select name from federator.arranged_queryable
        )
        select names.name, jsonb_build_object('wanted', coalesce(own.wanted, '[]'), 'rest', case
            when exists (select from federator.shared_queryable as s where s.name = names.name)
                or exists (select from pgstac.queryables as q where q.name = names.name and q.collection_ids is null)
            then (select jsonb_agg(c.id order by c.id) from pgstac.collections as c where c.id <> all (coalesce(own.ids, '{}'))) end) as state
        from names left join lateral (
            select jsonb_agg(to_jsonb(x) order by x.collection_id) as wanted, array_agg(x.collection_id) as ids from wanted as x where x.name = names.name
        ) as own on true
    loop
        continue when exists (select from federator.arranged_queryable as a where a.name = n.name and a.state = n.state);
        insert into federator.shared_queryable (name, definition, property_wrapper, property_path)
        select q.name, q.definition, q.property_wrapper, q.property_path
        from pgstac.queryables as q where q.name = n.name and q.collection_ids is null
        on conflict do nothing;
        select s.* into shared from federator.shared_queryable as s where s.name = n.name;
        -- Indexes that are this name's now.
        paired := array(
            select i.indexname from pgstac.queryables as q
            cross join lateral unnest(q.collection_ids) as c (id)
            join pgstac.collections as k on k.id = c.id
            cross join lateral pgstac.queryable_indexes(format('_items_%s', k.key)) as i
            where q.name = n.name and q.property_index_type is not null and to_regclass(format('pgstac._items_%s', k.key)) is not null
                and i.queryable_id = q.id and i.indexname is not null);
        delete from pgstac.queryables as q
        where q.name = n.name and q.collection_ids <@ array(
            select jsonb_array_elements(a.state -> 'wanted') ->> 'collection_id' from federator.arranged_queryable as a where a.name = n.name);
        if n.state -> 'wanted' = '[]' and shared.name is not null then
            perform pgstac.upsert_queryable(n.name, shared.definition, shared.property_wrapper, null, null, shared.property_path);
            delete from federator.shared_queryable as s where s.name = n.name;
        else
            for w in select * from jsonb_to_recordset(n.state -> 'wanted') as x (collection_id text, definition jsonb, is_indexed boolean) loop
                w.definition := coalesce(w.definition, shared.definition, federator.found_definition(w.collection_id, n.name));
                perform pgstac.upsert_queryable(
                    n.name, w.definition, coalesce(shared.property_wrapper, federator.wrapper_of(w.definition)),
                    case when w.is_indexed then pgstac.default_index_type(w.definition) end, array[w.collection_id], shared.property_path);
            end loop;
            if jsonb_typeof(n.state -> 'rest') = 'array' then
                perform pgstac.upsert_queryable(
                    n.name, shared.definition, shared.property_wrapper, null,
                    array(select jsonb_array_elements_text(n.state -> 'rest')), shared.property_path);
            end if;
        end if;
        for stale in
            select distinct i.partition, i.indexname from pgstac.collections as k
            cross join lateral pgstac.queryable_indexes(format('_items_%s', k.key), true) as i
            where cardinality(paired) > 0 and to_regclass(format('pgstac._items_%s', k.key)) is not null
                and i.queryable_id is null and i.indexname = any (paired)
        loop
            perform pgstac.run_or_queue(format('select pgstac.maintain_index(%L, %L, null, true, false)', stale.partition, stale.indexname));
        end loop;
        if n.state -> 'wanted' = '[]' then
            delete from federator.arranged_queryable as a where a.name = n.name;
        else
            insert into federator.arranged_queryable as a (name, state) values (n.name, n.state)
            on conflict (name) do update set state = excluded.state;
        end if;
        return next n.name;
    end loop;
end $$;
