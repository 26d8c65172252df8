-- The audit compares the projections with themselves made again (lineage/audit_graph.py), in a transaction that is rolled back.
create function lineage.keep_projections() returns void language plpgsql as $$
declare
    one text;
begin
    foreach one in array array['edge', 'item_version', 'entity', 'entity_item', 'run'] loop
        execute format('create temporary table %I on commit drop as select * from lineage.%I', 'before_' || one, one);
    end loop;
end $$;

create function lineage.projections_that_differ() returns table (part text, what text, told text, seq bigint) language plpgsql as $$
declare
    one text;
begin
    foreach one in array array['edge', 'item_version', 'entity', 'entity_item', 'run'] loop
        return query execute format(
            'select %1$L, d.what, left(d.row::text, 400), coalesce(d.row ->> ''seq'', d.row ->> ''from_seq'', d.row ->> ''first_seq'')::bigint from ('
            ' (select ''not what the events give'' as what, to_jsonb(b) as row from pg_temp.%2$I as b except all'
            '  select ''not what the events give'', to_jsonb(n) from lineage.%1$I as n)'
            ' union all'
            ' (select ''missing'', to_jsonb(n) from lineage.%1$I as n except all select ''missing'', to_jsonb(b) from pg_temp.%2$I as b)'
            ') as d limit 50', one, 'before_' || one);
    end loop;
end $$;
