-- What items say of their lineage when they are asked for it (api/stac/lineage_fields.py), and filters by it. Who may see which edge is decided by
-- lineage.step and lineage.known, as for walks.

-- Of items that the caller has seen: status, the number of the event that made them what they are, and the edges to what they came of.
create function lineage.item_facts(collections text[], items text[], principals text[], assertions text[])
returns table (collection text, item_id text, status text, log_index bigint, edges json) language plpgsql stable as $$
declare
    wanted uuid[] := array(
        select p.entity from unnest(collections, items) as w (collection, item_id)
        join lineage.entity_item as p on p.collection = w.collection and p.item_id = w.item_id);
begin
    return query
    with e as materialized (
        select s.* from lineage.step(wanted, true, principals, 9223372036854775807, 0::real, assertions, '{input}', null, null) as s
        where s.shown <> 'hidden'
    )
    select w.collection, w.item_id, p.status, v.from_seq,
        (select json_agg(json_build_object('assertion', e.assertion, 'confidence', e.confidence::text::float8, 'rule', e.rule, 'run', e.run,
            'kind', e.kind, 'name', e.name, 'items', e.items) order by e.confidence desc, e.name, e.seq) from e where e.child = p.entity)
    from unnest(collections, items) as w (collection, item_id)
    join lineage.entity_item as p on p.collection = w.collection and p.item_id = w.item_id
    left join lineage.item_version as v on v.collection = w.collection and v.item_id = w.item_id and v.to_seq is null;
end $$;

-- Items that came of an entity, in one step or (all_the_way) in up to twenty, when that is where their ways begin. Filters know what everybody may
-- know: whoever names a parent that he may not see finds nothing.
create function lineage.items_from(text_ids text, all_the_way boolean)
returns table (collection text, item_id text) language plpgsql stable rows 100 as $$
declare
    roots uuid[] := array(select k.id from lineage.known(text_ids::uuid[], '{}') as k);
    seen uuid[];
    frontier uuid[];
begin
    if all_the_way then
        roots := array(
            select r.id from unnest(roots) as r (id) where not exists (
                select from lineage.step(array[r.id], true, '{}', 9223372036854775807, 0::real, '{explicit,declared,inferred}', '{input}', null, null)));
    end if;
    seen := roots;
    frontier := roots;
    for depth in 1 .. case when all_the_way then 20 else 1 end loop
        exit when cardinality(frontier) = 0 or cardinality(seen) > 50000;
        frontier := array(
            select distinct s.child
            from lineage.step(frontier, false, '{}', 9223372036854775807, 0::real, '{explicit,declared,inferred}', '{input}', null, null) as s
            where s.child <> all (seen));
        seen := seen || frontier;
    end loop;
    return query
    select i.collection, i.item_id from lineage.entity_item as i where i.entity = any (seen[cardinality(roots) + 1:]);
end $$;

-- Whether everybody may know something that an item came of. Asked of row after row, most of which have nothing: it looks at the edges alone first.
create function lineage.has_parent(in_collection text, which text) returns boolean language plpgsql stable as $$
declare
    own uuid := (select p.entity from lineage.entity_item as p where p.collection = in_collection and p.item_id = which);
begin
    if own is null or not exists (select from lineage.edge as e where e.child = own and e.role = 'input' and e.superseded_by is null) then
        return false;
    end if;
    return exists (
        select from lineage.step(array[own], true, '{}', 9223372036854775807, 0::real, '{explicit,declared,inferred}', '{input}', null, null) as s
        where s.shown <> 'hidden');
end $$;

create function lineage.status_of(in_collection text, which text) returns text language plpgsql stable as $$
begin
    return coalesce((select p.status from lineage.entity_item as p where p.collection = in_collection and p.item_id = which), 'current');
end $$;

create index entity_item_status on lineage.entity_item (status) where status <> 'current';

-- Of a page of items only few are superseded: they are looked up one by one where most are meant, and by the index where few are.
create function lineage.items_of_status(wanted text)
returns table (collection text, item_id text) language plpgsql stable rows 1000 as $$
begin
    return query select i.collection, i.item_id from lineage.entity_item as i where i.status = wanted and i.status <> 'current';
end $$;

-- The version that an item is now, for the proof that its link leads to.
create function lineage.present_event(in_collection text, which text, principals text[]) returns uuid language plpgsql stable as $$
begin
    return (
        select e.id from lineage.item_version as v join lineage.event as e on e.seq = v.from_seq
        where v.collection = in_collection and v.item_id = which and v.to_seq is null and lineage.may_see(in_collection, which, principals));
end $$;

insert into pgstac.cql2_ops (op, template) values
    ('federator_lineage_parent', '((collection, id) in (select p.collection, p.item_id from lineage.items_from(%s, false) as p) and %s is not null)'),
    ('federator_lineage_root', '((collection, id) in (select p.collection, p.item_id from lineage.items_from(%s, true) as p) and %s is not null)'),
    ('federator_lineage_status', '((collection, id) in (select p.collection, p.item_id from lineage.items_of_status(%s) as p) and %s is not null)'),
    ('federator_lineage_current', '(lineage.status_of(collection, id) = %s and %s is not null)'),
    ('federator_lineage_known', '(lineage.has_parent(collection, id) and %s is not null)')
on conflict (op) do update set template = excluded.template;
