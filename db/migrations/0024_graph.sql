-- The graph: what the log says of products, who came from whom, and what items were. All but the last three tables are made of the events
-- alone (lineage/projector.py) and can be dropped and made again. Ids of entities are hashes of what names them (lineage/names.py), so that
-- they come out the same each time.

create table lineage.projection (
    name text primary key,
    next_seq bigint not null check (next_seq >= 0)
);
comment on table lineage.projection is 'How far each projection has read the log: the first number that it has not read.';
insert into lineage.projection values ('graph', 0);

create table lineage.entity (
    id uuid primary key,
    kind text not null check (kind in ('product', 'item', 'file', 'dataset')),
    name text not null,
    family text, -- products whose names can tell parents of one another share it
    owner text, -- principal that made it
    first_seq bigint not null
);
create index entity_family on lineage.entity (family) where family is not null;
create index entity_owner on lineage.entity (owner) where owner is not null;
comment on table lineage.entity is 'product: by its name, whoever holds it, also when nobody does; item: own data; file: bytes by their hash; dataset: what a run named.';

create table lineage.entity_item (
    collection text not null,
    item_id text not null,
    entity uuid not null,
    status text not null check (status in ('current', 'superseded', 'withdrawn', 'deleted')),
    successor text, -- item in the same collection
    first_seq bigint not null,
    status_seq bigint not null,
    primary key (collection, item_id)
);
create index entity_item_entity on lineage.entity_item (entity);
comment on table lineage.entity_item is 'Where an entity is in the catalogue, and how it is there: status is a fold of the events.';

create table lineage.edge (
    child uuid not null,
    parent uuid not null,
    role text not null check (role in ('input', 'aux', 'copy_of', 'revision_of', 'alternate_of')),
    assertion text not null check (assertion in ('explicit', 'declared', 'inferred')),
    confidence real not null check (confidence between 0 and 1),
    rule text not null, -- with its version
    seq bigint not null,
    superseded_by bigint,
    run uuid,
    label text, -- of a parent that is a file: its name as the event says it
    told_in text, -- collection and item whose event says so: who may not see them may not see the edge; null: names alone tell it
    told_of text,
    by_name boolean not null, -- the event names the parent and nothing else of it
    primary key (child, parent, role, seq)
);
create index edge_parent on lineage.edge (parent, child);
comment on column lineage.edge.superseded_by is 'Number of the event since which the edge does not hold.';

create table lineage.run (
    id uuid primary key,
    namespace text not null,
    job text not null,
    owner text not null,
    state text not null,
    software jsonb not null,
    params jsonb not null,
    facility text,
    started timestamptz,
    ended timestamptz,
    first_seq bigint not null,
    last_seq bigint not null
);
create index run_owner on lineage.run (owner, first_seq);

create table lineage.item_version (
    collection text not null,
    item_id text not null,
    version integer not null,
    kind text not null, -- of the event that began it
    from_seq bigint not null,
    to_seq bigint,
    valid_from timestamptz not null,
    valid_to timestamptz,
    item_sha256 bytea check (octet_length(item_sha256) = 32), -- null: the item was not there
    primary key (collection, item_id, from_seq),
    check (to_seq > from_seq),
    check (valid_to >= valid_from)
);
create unique index item_version_open on lineage.item_version (collection, item_id) where to_seq is null;
comment on table lineage.item_version is 'What an item was from one event to another. Its document is the present item or one in past_item, found by the hash.';

-- Documents of items that were replaced or deleted, kept by the transaction that did it. What is new costs nothing here.
create table lineage.past_item (
    id bigint generated always as identity primary key,
    collection text not null,
    item_id text not null,
    replaced_at timestamptz not null default clock_timestamp(),
    geometry public.geometry, -- as pgstac stores it, until a worker has made the document
    content text,
    base_item jsonb,
    item_sha256 bytea,
    doc text, -- RFC 8785, its SHA-256 is item_sha256
    links text,
    check ((item_sha256 is null) = (doc is null))
);
create index past_item_item on lineage.past_item (collection, item_id, item_sha256);
create index past_item_raw on lineage.past_item (id) where doc is null;
do $$ begin
    alter table lineage.past_item alter column doc set compression lz4;
    alter table lineage.past_item alter column content set compression lz4;
exception when feature_not_supported then
    null; -- a server that was built without it
end $$;

create function lineage.keep_past_item() returns trigger language plpgsql security definer set search_path = pg_catalog as $$
begin
    -- The base item goes with its collection, so it is kept too; most collections have one row or none.
    insert into lineage.past_item (collection, item_id, geometry, content, base_item)
    values (old.collection, old.id, old.geometry, old.content::text,
        pgstac.collection_base_item(old.collection, (old.content ->> 'pgstac:base_item')::int));
    return null;
end $$;
create trigger keep_past_item_deleted after delete on pgstac.items for each row execute function lineage.keep_past_item();
create trigger keep_past_item_updated after update on pgstac.items for each row
    when (old.content is distinct from new.content or old.id is distinct from new.id or old.collection is distinct from new.collection
        or not (old.geometry operator(public.~=) new.geometry))
    execute function lineage.keep_past_item();

-- What upstreams say of a product's making, word for word: manifests, metadata files. The event that names its hash is its date.
create table lineage.upstream_claim (
    collection text not null,
    item_id text not null,
    raw_sha256 bytea not null check (octet_length(raw_sha256) = 32),
    entity uuid not null,
    source text not null,
    raw bytea not null, -- zlib
    fetched_at timestamptz not null default now(),
    verdict text not null,
    details jsonb not null,
    primary key (collection, item_id, raw_sha256)
);

-- Parents that not everybody may see: the event says a hash over salt and parents, and the row that opens it can be deleted.
create table lineage.commitment (
    digest bytea primary key check (octet_length(digest) = 32),
    salt bytea not null,
    entities uuid[] not null
);

create table lineage.watch (
    id uuid primary key,
    owner text not null,
    kind text not null check (kind in ('product', 'mine')),
    entity uuid,
    name text,
    from_seq bigint not null, -- size of the log when it was set
    created_at timestamptz not null default now(),
    check ((kind = 'product') = (entity is not null))
);
create index watch_owner on lineage.watch (owner, created_at);

-- Where in the catalogue a caller may see an entity. `places` counts all there are.
create function lineage.seen(which uuid, hidden text[], principals text[])
returns table (places bigint, items text[]) language plpgsql stable as $$
begin
    return query
    select count(*), array_agg(array[i.collection, i.item_id, i.status] order by i.collection, i.item_id) filter (
        where i.collection <> all (hidden) and not exists (
            select from federator.private_item as p
            where p.collection_id = i.collection and p.item_id = i.item_id and not federator.may_read(p.private, principals)))
    from lineage.entity_item as i where i.entity = which;
end $$;

-- One step of a walk: the edges from these entities to their parents (upward) or children (those with ids in a range), and what the caller may know of the other end.
-- shown: 'whole'; 'named': nothing but the name, which the event of the child tells; 'hidden': a parent that the caller may not see.
-- A child that he may not see, and a parent that was inferred and that he may not see, are not there.
create function lineage.step(entities uuid[], upward boolean, principals text[], as_of bigint, min_confidence real, assertions text[], roles text[],
    after uuid, upto uuid)
returns table (child uuid, parent uuid, role text, assertion text, confidence real, rule text, seq bigint, run uuid, label text,
    kind text, name text, items text[], shown text) language plpgsql stable as $$
declare
    hidden text[] := federator.hidden_collections(principals);
    is_admin boolean := 'role:admin' = any (principals);
begin
    return query
    with e as materialized (
        select x.* from (
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
        select n.id, n.kind, n.name, n.owner, s.places, s.items
        from (select distinct case when upward then e.parent else e.child end as id from e) as d
        join lineage.entity as n on n.id = d.id
        cross join lateral (
            select count(*) as places, array_agg(array[i.collection, i.item_id, i.status] order by i.collection, i.item_id) filter (
                where i.collection <> all (hidden) and not exists (
                    select from federator.private_item as p
                    where p.collection_id = i.collection and p.item_id = i.item_id and not federator.may_read(p.private, principals))) as items
            from lineage.entity_item as i where i.entity = n.id
        ) as s
    )
    select e.child, case when v.shown <> 'hidden' then e.parent end, e.role, e.assertion, e.confidence, e.rule, e.seq,
        case when v.shown = 'whole' then e.run end, e.label, o.kind, case when v.shown <> 'hidden' then o.name end, o.items, v.shown
    from e
    join o on o.id = case when upward then e.parent else e.child end
    cross join lateral (select case
        when o.items is not null or is_admin then 'whole'
        when o.places = 0 and (o.owner is null or o.owner = any (principals)) then 'whole'
        when not upward then 'absent'
        when o.kind = 'product' and e.by_name then 'named'
        when e.assertion = 'inferred' then 'absent'
        else 'hidden' end as shown) as v
    where v.shown <> 'absent'
    order by e.child, e.parent, e.role, e.seq;
end $$;

-- Entities that a caller may ask about. What is nowhere in the catalogue, or only where he may not look, is there by its name for those who
-- see the event that names it.
create function lineage.known(wanted uuid[], principals text[])
returns table (id uuid, kind text, name text, items text[]) language plpgsql stable as $$
declare
    hidden text[] := federator.hidden_collections(principals);
begin
    return query
    select n.id, n.kind, n.name, s.items
    from lineage.entity as n, lateral lineage.seen(n.id, hidden, principals) as s
    where n.id = any (wanted) and (
        s.items is not null or 'role:admin' = any (principals)
        or (s.places = 0 and n.owner = any (principals))
        or n.kind in ('product', 'file') and exists (
            select from lineage.edge as e
            where e.parent = n.id and (e.by_name or n.kind = 'file') and e.told_in is not null and lineage.may_see(e.told_in, e.told_of, principals)))
    order by n.id;
end $$;

-- Whether a caller may see what the log says of an item: as of its events.
create function lineage.may_see(in_collection text, which text, principals text[]) returns boolean language plpgsql stable as $$
begin
    return in_collection <> all (federator.hidden_collections(principals)) and not exists (
        select from federator.private_item as p
        where p.collection_id = in_collection and p.item_id = which and not federator.may_read(p.private, principals));
end $$;
