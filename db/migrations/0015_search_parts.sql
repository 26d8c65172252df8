-- A walk along time and a property that some items lack met items twice: alternatives were not held together.

-- Conditions that cut what is behind a row (null: everything) into parts, in the order of the sort. Sorted by time they are cut at `cuts`, which
-- come in that order: most searches end in the newest partitions, and to plan for all of them takes longer than to read a page. Every
-- instant is in one part, whatever partitions there are by now.
create or replace function federator.page_parts(keys jsonb, vals text[], cuts timestamptz[]) returns text[] language plpgsql immutable as $$
declare
    rest text[] := case when vals is null then array['true'] else federator.behind(keys, vals) end;
    near text := case when (keys -> 0 ->> 'descending')::boolean then '>=' else '<' end;
    far text := case when (keys -> 0 ->> 'descending')::boolean then '<' else '>=' end;
begin
    if cardinality(cuts) = 0 or keys -> 0 ->> 'expression' <> 'datetime' or cardinality(rest) > 1 then
        return rest;
    end if;
    return array(
        select concat_ws(' and ', case when n > 1 then format('datetime %s %L', far, cuts[n - 1]) end,
            case when n <= cardinality(cuts) then format('datetime %s %L', near, cuts[n]) end, '(' || rest[1] || ')')
        from generate_series(1, cardinality(cuts) + 1) as n order by n
    );
end $$;
