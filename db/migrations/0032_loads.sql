-- Footprints of a load (ingest/store.py) come in one row and not in one each: noting them one by one cost a tenth of storing an item.
create table federator.footprint_load (
    id bigint generated always as identity primary key,
    collection_id text not null,
    geometries bytea[] not null
);
alter table federator.footprint_load alter column geometries set storage external;
comment on table federator.footprint_load is 'Footprints that have come with loads since cells were reckoned last; as so many rows of footprint_change with step 1.';

-- From here to federator.end_load the caller notes the footprints of rows that he inserts. Both are within one transaction, and whatever
-- fails between them takes the setting back with the rows.
create function federator.begin_load() returns void language plpgsql as $$
begin
    perform set_config('federator.footprints', 'noted by the load', true);
end $$;

create function federator.end_load(in_collection text, footprints bytea[]) returns void
language plpgsql security definer set search_path = pg_catalog as $$
begin
    perform set_config('federator.footprints', '', true);
    if cardinality(footprints) > 0 then
        insert into federator.collection_touch (collection_id, xact) values (in_collection, pg_current_xact_id()) on conflict do nothing;
        insert into federator.footprint_load (collection_id, geometries) values (in_collection, footprints);
    end if;
end $$;

-- The trigger of 0027_tiles.sql in two, as only an insert can be part of a load. Its condition is all that a row of a load costs.
drop trigger note_footprint on pgstac.items;
create trigger note_footprint_made after insert on pgstac.items for each row
    when (current_setting('federator.footprints', true) is distinct from 'noted by the load') execute function federator.note_footprint();
create trigger note_footprint_changed after update or delete on pgstac.items for each row execute function federator.note_footprint();

create or replace function federator.forget_footprints() returns trigger language plpgsql security definer set search_path = pg_catalog as $$
begin
    delete from federator.footprint_change where collection_id = old.id;
    delete from federator.footprint_load where collection_id = old.id;
    delete from federator.footprint_cell where collection_id = old.id;
    insert into federator.collection_touch (collection_id, xact) values (old.id, pg_current_xact_id()) on conflict do nothing;
    return null;
end $$;

create or replace function federator.forget_all_footprints() returns trigger language plpgsql security definer set search_path = pg_catalog as $$
begin
    truncate federator.footprint_change, federator.footprint_load, federator.footprint_cell;
    update federator.collection_turn set touches = touches + 1;
    return null;
end $$;
