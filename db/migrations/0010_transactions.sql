-- Edits: items and collections that callers write through the API.

-- Harvest knows where its items are and looks nowhere else. In these collections there may be items that a caller has written, so it looks.
create table federator.edited_collection (
    collection_id text primary key references pgstac.collections (id) on delete cascade on update cascade
);
comment on table federator.edited_collection is 'Collections into which callers have written items; one row a collection, once.';

-- Items of callers in whose place harvest has put a product of the same id. Nothing that a caller has written is lost.
create table federator.displaced_item (
    id bigint generated always as identity primary key,
    collection_id text not null,
    item_id text not null,
    content jsonb not null,
    displaced_at timestamptz not null default now()
);
create index displaced_item_item on federator.displaced_item (collection_id, item_id);
comment on table federator.displaced_item is 'Items that callers had written, as they were when a harvested product took their place.';

-- UUIDv7 (RFC 9562, 5.7), as lineage/ids.py makes them: 48 bits of Unix milliseconds over random ones.
create function lineage.uuid7() returns uuid language plpgsql volatile as $$
begin
    return encode(
        set_bit(set_bit(overlay(
            uuid_send(gen_random_uuid())
            placing substring(int8send(floor(extract(epoch from clock_timestamp()) * 1000)::bigint) from 3) from 1 for 6
        ), 52, 1), 53, 1), 'hex')::uuid;
end $$;

-- Deletes a collection with its items and all that is known of their harvest, so that a harvest which is ordered again begins anew. Each
-- item's event is written here, as partitions are dropped without a word to row triggers. Bodies are RFC 8785: PostgreSQL escapes a text
-- as that asks. Returns how many items there were.
create function federator.delete_collection(which text, actor text) returns bigint language plpgsql as $$
declare
    number bigint;
begin
    insert into lineage.event_outbox (id, kind, name, source, collection, item_id, actor_id, claimed_at, body)
    select lineage.uuid7(), 'DELETE', coalesce(h.product, i.id), 'own', which, i.id, actor, clock_timestamp(),
        format('{"collection":%s,"item":%s,"reason":"collection deleted","source":"own"}', to_json(which), to_json(i.id))
    from pgstac.items as i
    left join federator.harvested_item as h on h.collection_id = i.collection and h.item_id = i.id
    where i.collection = which;
    get diagnostics number = row_count;
    delete from federator.holding where collection_id = which;
    delete from federator.harvested_item where collection_id = which;
    delete from federator.harvest_cursor where collection_id = which;
    delete from federator.quarantine where collection_id = which;
    delete from federator.census where collection_id = which;
    delete from pgstac.collections where id = which;
    return number;
end $$;
