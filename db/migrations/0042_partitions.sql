-- A new month or year of a collection, as pgstac's check_partition makes it, for a third of its time (ADR 65): of 16 ms it takes 11 to
-- look whether the new table lacks indexes of queryables, half a millisecond for each queryable there is, and when none is to be indexed it
-- lacks none. Whatever is not simply new (a table that is there, the first one of a collection, indexed queryables, settings that ask for
-- more, another pgstac) is left to pgstac. A test holds what both make against each other; who brings another pgstac writes its version
-- into a new function when they are still alike.
create function federator.make_partition(in_collection text, dtrange tstzrange, edtrange tstzrange) returns text
language plpgsql security definer set search_path = pgstac, public, pg_temp as $$
declare
    parent text;
    made text;
    bounds tstzrange;
begin
    select format('_items_%s', c.key) into parent from pgstac.collections as c
    where c.id = in_collection and c.partition_trunc is not null and to_regclass(format('pgstac._items_%s', c.key)) is not null;
    if parent is null or pgstac.get_version() is distinct from '0.10.0'
        or pgstac.get_setting_bool('use_queue') or pgstac.get_setting_bool('update_collection_extent') or exists (
        select from pgstac.queryables as q where q.property_index_type is not null
            and (q.collection_ids is null or in_collection = any (q.collection_ids))
    ) then
        return pgstac.check_partition(in_collection, dtrange, edtrange);
    end if;
    select p.partition_name, p.partition_range into made, bounds from pgstac.partition_name(in_collection, lower(dtrange)) as p;
    if to_regclass(format('pgstac.%I', made)) is not null or not bounds @> dtrange then
        return pgstac.check_partition(in_collection, dtrange, edtrange);
    end if;
    begin
        execute format('create table pgstac.%I partition of pgstac.%I for values from (%L) to (%L)', made, parent, lower(bounds), upper(bounds));
    exception when duplicate_table or unique_violation then -- somebody else was quicker
        return pgstac.check_partition(in_collection, dtrange, edtrange);
    end;
    execute format('create unique index %I on pgstac.%I (id)', made || '_pk', made);
    execute format('grant all on pgstac.%I to pgstac_ingest', made);
    perform pgstac.create_table_constraints(made, dtrange, edtrange);
    insert into pgstac.partition_stats (partition, collection, partition_dtrange) values (made, in_collection, bounds)
    on conflict (partition) do update set collection = excluded.collection, partition_dtrange = excluded.partition_dtrange;
    return made;
end $$;
-- Its tables belong to whom those of pgstac belong to, and who may make partitions there may make them here.
grant create on schema federator to pgstac_admin;
alter function federator.make_partition owner to pgstac_admin;
revoke create on schema federator from pgstac_admin;
revoke execute on function federator.make_partition from public;
grant execute on function federator.make_partition to pgstac_ingest;
