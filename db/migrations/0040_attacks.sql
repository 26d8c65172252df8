-- A filter by lineage:root_product that would have to look through too many products says so: it gave the first ones alone.

-- Products that a filter looks through.
create function lineage.most_looked_through() returns integer language plpgsql immutable as $$
begin
    return 50000;
end $$;

-- As before (0034_lineage_fields.sql), but for what is beyond the most.
create or replace function lineage.items_from(text_ids text, all_the_way boolean)
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
        exit when cardinality(frontier) = 0;
        frontier := array(
            select distinct s.child
            from lineage.step(frontier, false, '{}', 9223372036854775807, 0::real, '{explicit,declared,inferred}', '{input}', null, null) as s
            where s.child <> all (seen));
        if cardinality(frontier) > 0 and cardinality(seen) > lineage.most_looked_through() then
            raise exception 'more came of it than a filter can look through' using errcode = 'too_many_arguments';
        end if;
        seen := seen || frontier;
    end loop;
    return query
    select i.collection, i.item_id from lineage.entity_item as i where i.entity = any (seen[cardinality(roots) + 1:]);
end $$;
