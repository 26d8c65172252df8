-- As lineage.step (0024_graph.sql), for who reads very many: nothing is carried from one part to the next that the last one does not need, and
-- places are written as JSON once for each entity, in no order, and not once for each edge that leads there.
create function lineage.step_told(entities uuid[], upward boolean, principals text[], as_of bigint, min_confidence real, assertions text[],
    roles text[], after uuid, upto uuid)
returns table (child uuid, parent uuid, role text, assertion text, confidence real, rule text, seq bigint, run uuid, label text,
    kind text, name text, items text, shown text) language plpgsql stable set plan_cache_mode = force_generic_plan as $$
declare
    hidden text[] := federator.hidden_collections(principals);
    is_admin boolean := 'role:admin' = any (principals);
begin
    return query
    with e as materialized (
        select x.child, x.parent, x.role, x.assertion, x.confidence, x.rule, x.seq, x.run, x.label, x.by_name,
            case when upward then x.parent else x.child end as other
        from (
            select y.* from lineage.edge as y where upward and y.child = any (entities)
            union all
            select y.* from lineage.edge as y where not upward and y.parent = any (entities)
                and y.child > coalesce(after, '00000000-0000-0000-0000-000000000000') and y.child <= coalesce(upto, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
        ) as x
        where x.seq < as_of and (x.superseded_by is null or x.superseded_by >= as_of)
            and (x.told_in is null or x.told_in <> all (hidden) and not exists (
                select from federator.private_item as p
                where p.collection_id = x.told_in and p.item_id = x.told_of and not federator.may_read(p.private, principals)))
            and x.confidence >= min_confidence and x.assertion = any (assertions) and x.role = any (roles)
    ),
    o as materialized ( -- each once: many have many parents in common
        select n.id, n.kind, n.name, array_to_json(s.items)::text as items,
            s.items is not null or is_admin or s.places = 0 and (n.owner is null or n.owner = any (principals)) as is_whole
        from (select distinct e.other as id from e) as d
        join lineage.entity as n on n.id = d.id
        cross join lateral (
            select count(*) as places, array_agg(array[i.collection, i.item_id, i.status]) filter (
                where i.collection <> all (hidden) and not exists (
                    select from federator.private_item as p
                    where p.collection_id = i.collection and p.item_id = i.item_id and not federator.may_read(p.private, principals))) as items
            from lineage.entity_item as i where i.entity = n.id
        ) as s
    )
    select e.child, case when v.shown <> 'hidden' then e.parent end, e.role, e.assertion, e.confidence, e.rule, e.seq,
        case when v.shown = 'whole' then e.run end, e.label, o.kind, case when v.shown <> 'hidden' then o.name end, o.items, v.shown
    from e
    join o on o.id = e.other
    cross join lateral (select case
        when o.is_whole then 'whole'
        when not upward then 'absent'
        when o.kind = 'product' and e.by_name then 'named'
        when e.assertion = 'inferred' then 'absent'
        else 'hidden' end as shown) as v
    where v.shown <> 'absent'
    order by e.child, e.parent, e.role, e.seq;
end $$;
