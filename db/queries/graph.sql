-- name: try_lock
-- One projector at a time; to the transaction's end, as what its statements are planned with: once, and by indexes. What a connection planned
-- while the graph was empty read all of it later, once for each batch, and compared each row with each id that was asked for.
select pg_try_advisory_xact_lock(hashtext('lineage.projector')) as locked, set_config('plan_cache_mode', 'force_generic_plan', true),
    set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true), set_config('enable_hashjoin', 'off', true),
    set_config('enable_mergejoin', 'off', true), set_config('enable_material', 'off', true);

-- name: lock
-- A rebuild waits for the projector that is at it.
select pg_advisory_xact_lock(hashtext('lineage.projector'));

-- name: next_seq
-- The first event that the graph does not know.
select next_seq from lineage.projection where name = 'graph';

-- name: advance
-- In the transaction of what was projected.
update lineage.projection set next_seq = $1 where name = 'graph';

-- name: empty
-- All that is made of events.
truncate lineage.entity, lineage.entity_item, lineage.edge, lineage.run, lineage.item_version;

-- name: analyze
-- For those who read what was made at once.
analyze lineage.entity, lineage.entity_item, lineage.edge, lineage.item_version;

-- name: facts
-- Events in their order.
select seq, kind, name, source, collection, item_id, actor_id, claimed_at, recorded_at, body
from lineage.event where seq >= $1 order by seq limit $2;

-- name: last_seq
-- About how many events there are.
select coalesce(max(seq), 0) as seq from lineage.event;

-- name: places
-- Items that are known, by their place. Lists come as JSON: drivers take longer to write arrays than the database to read them.
select p.collection, p.item_id, p.entity::text, p.status, p.successor, p.first_seq, p.status_seq, true as is_stored
from json_to_recordset($1::json) as wanted (collection text, item_id text)
cross join lateral (
    select * from lineage.entity_item as i where i.collection = wanted.collection and i.item_id = wanted.item_id limit 1
) as p;

-- name: entities
-- By id.
select id::text, kind, name, first_seq, family, owner, true as is_stored from lineage.entity where id = any ($1::uuid[]);

-- name: families
-- Products of which one may be another's parent.
select id::text, name, family from lineage.entity where family = any ($1::text[]);

-- name: holding_edges
-- What holds now, of these children.
select child::text, parent::text, role, assertion, confidence, rule, seq, superseded_by, run::text, label, told_in, told_of, by_name, true as is_stored
from lineage.edge where child = any ($1::uuid[]) and superseded_by is null;

-- name: open_versions
-- The present version of items, one by one.
select v.collection, v.item_id, v.version, v.kind, v.from_seq, v.valid_from, encode(v.item_sha256, 'hex')
from json_to_recordset($1::json) as wanted (collection text, item_id text)
cross join lateral (
    select * from lineage.item_version as o where o.collection = wanted.collection and o.item_id = wanted.item_id and o.to_seq is null limit 1
) as v;

-- name: commitments
-- Parents behind hashes.
select encode(digest, 'hex'), entities::text[] from lineage.commitment where digest = any ($1::bytea[]);

-- name: runs
-- By id.
select id::text, namespace, job, owner, state, software, params, facility, started, ended, first_seq, last_seq
from lineage.run where id = any ($1::uuid[]);

-- name: copy_entities
-- New ones.
copy lineage.entity (id, kind, name, family, owner, first_seq) from stdin;

-- name: copy_places
-- New ones.
copy lineage.entity_item (collection, item_id, entity, status, successor, first_seq, status_seq) from stdin;

-- name: copy_edges
-- New ones.
copy lineage.edge (child, parent, role, assertion, confidence, rule, seq, superseded_by, run, label, told_in, told_of, by_name) from stdin;

-- name: copy_versions
-- In the order in which they began; those that were open have ended already.
copy lineage.item_version (collection, item_id, version, kind, from_seq, to_seq, valid_from, valid_to, item_sha256) from stdin;

-- name: put_entities
-- What is known of old ones since.
insert into lineage.entity as e (id, kind, name, family, owner, first_seq)
select id, kind, name, family, owner, first_seq from json_populate_recordset(null::lineage.entity, $1::json)
on conflict (id) do update set family = coalesce(excluded.family, e.family), owner = coalesce(excluded.owner, e.owner);

-- name: put_places
-- Where old ones are now.
insert into lineage.entity_item (collection, item_id, entity, status, successor, first_seq, status_seq)
select collection, item_id, entity, status, successor, first_seq, status_seq from json_populate_recordset(null::lineage.entity_item, $1::json)
on conflict (collection, item_id) do update
set entity = excluded.entity, status = excluded.status, successor = excluded.successor, status_seq = excluded.status_seq;

-- name: put_edges
-- The end of old ones.
insert into lineage.edge (child, parent, role, assertion, confidence, rule, seq, superseded_by, run, label, told_in, told_of, by_name)
select child, parent, role, assertion, confidence, rule, seq, superseded_by, run, label, told_in, told_of, by_name
from json_populate_recordset(null::lineage.edge, $1::json)
on conflict (child, parent, role, seq) do update set superseded_by = excluded.superseded_by;

-- name: end_versions
-- What was open and is not any more.
update lineage.item_version as v set to_seq = e.to_seq, valid_to = e.valid_to
from json_populate_recordset(null::lineage.item_version, $1::json) as e
where v.collection = e.collection and v.item_id = e.item_id and v.from_seq = e.from_seq;

-- name: put_runs
-- As their last event says.
insert into lineage.run (id, namespace, job, owner, state, software, params, facility, started, ended, first_seq, last_seq)
select id, namespace, job, owner, state, software, params, facility, started, ended, first_seq, last_seq
from json_populate_recordset(null::lineage.run, $1::json)
on conflict (id) do update set namespace = excluded.namespace, job = excluded.job, state = excluded.state, software = excluded.software,
    params = excluded.params, facility = excluded.facility, started = excluded.started, ended = excluded.ended, last_seq = excluded.last_seq;

-- name: log_size
-- How many events the graph knows.
select next_seq as size from lineage.projection where name = 'graph';

-- name: size_at
-- How many events there were at a time.
select coalesce(max(seq) + 1, 0) as size from lineage.event where recorded_at <= $1;

-- name: step
-- One step of a walk; see the function. Columns in the order of lineage/graph.py's Link, then what is known of the other end; ids as texts.
select child::text, parent::text, role, assertion, confidence, rule, seq, run::text, label, kind, name, items, shown
from lineage.step_told($1::uuid[], $2, $3::text[], $4, $5::real, $6::text[], $7::text[], $8::uuid, $9::uuid);

-- name: page_ends
-- Every n-th child of an entity, so that the first of very many need not wait for the last.
select child from (select child, row_number() over (order by child) as number from lineage.edge where parent = $1) as c where number % $2 = 0;

-- name: known
-- Where walks may begin.
select * from lineage.known($1::uuid[], $2::text[]);

-- name: entity_of_item
-- What an item is in the graph, for those who may see its history.
select entity from lineage.entity_item where collection = $1 and item_id = $2 and lineage.may_see(collection, item_id, $3::text[]);

-- name: seen_items
-- What many items are in the graph, those that the caller may see the history of; in one statement.
with h as materialized (select federator.hidden_collections($3::text[]) as hidden)
select distinct p.entity
from h, unnest($1::text[], $2::text[]) as wanted (collection, item_id) join lineage.entity_item as p using (collection, item_id)
where p.collection <> all (h.hidden) and not exists (
    select from federator.private_item as v
    where v.collection_id = p.collection and v.item_id = p.item_id and not federator.may_read(v.private, $3::text[]));

-- name: held
-- Those of these entities that are, or were, items of the catalogue.
select array(select distinct entity from lineage.entity_item where entity = any ($1::uuid[])) as held;

-- name: entities_of_hashes
-- Items whose events name these hashes, for those who may see them.
select h.digest, i.entity
from unnest($1::bytea[]) as wanted (digest)
join lineage.event_hash as h using (digest)
join lineage.event as e on e.seq = h.seq
join lineage.entity_item as i on i.collection = e.collection and i.item_id = e.item_id
where lineage.may_see(e.collection, e.item_id, $2::text[]) group by 1, 2;

-- name: mine
-- What a caller has made, as it is in the catalogue.
select e.id from lineage.entity as e where e.owner = $1 order by e.id limit $2;

-- name: hash_matches
-- Events that name hashes: the newest 20 of each.
select wanted.number, h.alg, m.*
from unnest($1::int[], $2::bytea[], $3::text[]) as wanted (number, digest, alg)
cross join lateral (
    select distinct on (x.alg) x.alg, x.digest from lineage.event_hash as x where x.digest = wanted.digest and (wanted.alg = '' or x.alg = wanted.alg)
) as h
cross join lateral (
    select e.seq, e.id, e.kind, e.name, e.source, e.collection, e.item_id, e.recorded_at,
        (select j ->> 'path' from jsonb_array_elements(e.body::jsonb -> 'hashes') as j
         where lower(j ->> 'digest') = encode(h.digest, 'hex') and j ->> 'path' is not null limit 1) as path,
        p.status, p.successor, t.event_id is not null as is_signed
    from lineage.event_hash as x
    join lineage.event as e on e.seq = x.seq
    left join lineage.entity_item as p on p.collection = e.collection and p.item_id = e.item_id
    left join lineage.trace_signature as t on t.event_id = e.id
    where x.digest = h.digest and x.alg = h.alg and e.collection is not null
        and e.collection <> all ($4::text[]) and not exists (
            select from federator.private_item as v
            where v.collection_id = e.collection and v.item_id = e.item_id and not federator.may_read(v.private, $5::text[]))
    order by e.seq desc limit 20
) as m
order by wanted.number, m.seq;

-- name: hidden_collections
-- Asked once for many.
select federator.hidden_collections($1::text[]) as hidden;

-- name: versions
-- What an item was, oldest first, with the events that began each version.
select v.version, v.kind, v.from_seq, v.to_seq, v.valid_from, v.valid_to, encode(v.item_sha256, 'hex') as item_sha256, e.id as event_id,
    e.actor_id as actor, e.source
from lineage.item_version as v join lineage.event as e on e.seq = v.from_seq
where v.collection = $1 and v.item_id = $2 and lineage.may_see(v.collection, v.item_id, $3::text[])
order by v.from_seq;

-- name: version_at
-- What an item was at a time ($4), or in a log of so many events ($5), or by its number ($6).
select v.version, v.kind, v.from_seq, v.to_seq, v.valid_from, v.valid_to, encode(v.item_sha256, 'hex') as item_sha256, e.id as event_id
from lineage.item_version as v join lineage.event as e on e.seq = v.from_seq
where v.collection = $1 and v.item_id = $2 and lineage.may_see(v.collection, v.item_id, $3::text[])
    and ($4::timestamptz is null or v.valid_from <= $4 and (v.valid_to is null or v.valid_to > $4))
    and ($5::bigint is null or v.from_seq < $5 and (v.to_seq is null or v.to_seq >= $5))
    and ($6::int is null or v.version = $6)
order by v.from_seq desc limit 1;

-- name: past_document
-- The document of a version that was replaced.
select doc, links from lineage.past_item where collection = $1 and item_id = $2 and item_sha256 = $3 order by id desc limit 1;

-- name: raw_past_items
-- Replaced documents that nobody has looked at yet; others leave them alone meanwhile.
select id, collection, item_id, public.st_asgeojson(geometry, 20) as geometry, coalesce(stored::text, content) as content, base_item::text as base_item
from lineage.past_item where doc is null order by id limit $1 for update skip locked;

-- name: raw_past_items_of
-- The same of one item, for a reader who does not wait for a worker.
select id, collection, item_id, public.st_asgeojson(geometry, 20) as geometry, coalesce(stored::text, content) as content, base_item::text as base_item
from lineage.past_item where collection = $1 and item_id = $2 and doc is null order by id desc limit 100;

-- name: settle_past_items
-- Their documents.
update lineage.past_item as p set item_sha256 = d.sha256, doc = d.doc, links = d.links, geometry = null, content = null, stored = null,
    base_item = null
from unnest($1::bigint[], $2::bytea[], $3::text[], $4::text[]) as d (id, sha256, doc, links) where p.id = d.id;

-- name: status
-- How an item is, by what the log says.
select p.status, p.successor, p.first_seq, p.status_seq, n.kind, n.name, e.id as event_id, e.kind as event_kind, e.recorded_at, e.body::jsonb ->> 'reason' as reason
from lineage.entity_item as p join lineage.entity as n on n.id = p.entity join lineage.event as e on e.seq = p.status_seq
where p.collection = $1 and p.item_id = $2 and lineage.may_see(p.collection, p.item_id, $3::text[]);

-- name: orphans
-- Items of a collection without a known parent, or with one that no catalogue has; after an id, in the order of ids.
select p.item_id, p.status, parent.name as missing
from lineage.entity_item as p
left join lateral (
    select n.name, exists (select from lineage.entity_item as i where i.entity = n.id) or n.kind = 'file' as is_held
    from lineage.edge as e join lineage.entity as n on n.id = e.parent
    where e.child = p.entity and e.role = 'input' and e.superseded_by is null
        and (e.told_in is null or lineage.may_see(e.told_in, e.told_of, $2::text[]))
    order by is_held desc, n.name limit 1
) as parent on true
where p.collection = $1 and p.item_id > $3 and parent.is_held is distinct from true
    and lineage.may_see(p.collection, p.item_id, $2::text[])
order by p.item_id limit $4;

-- name: audit
-- Who did what when, by the number of the event.
select seq, id, kind, name, source, collection, item_id, actor_id, claimed_at, recorded_at, body, key_id, false as pending
from lineage.event as e
where seq >= $1 and ($2::text is null or actor_id = $2) and ($3::text[] is null or kind = any ($3)) and ($4::text is null or name = any ($5::text[]))
    and ($6::text is null or collection = $6) and ($7::text is null or item_id = $7)
    and ($8::timestamptz is null or recorded_at >= $8) and ($9::timestamptz is null or recorded_at < $9)
    and coalesce(collection <> all (array(select unnest(federator.hidden_collections($10::text[])))), true)
    and not exists (
        select from federator.private_item as p
        where p.collection_id = e.collection and p.item_id = e.item_id and not federator.may_read(p.private, $10::text[]))
    and federator.may_see_event(kind, name, $10::text[])
order by seq limit $11;

-- name: times
-- When events were recorded.
select seq, recorded_at from lineage.event where seq = any ($1::bigint[]);

-- name: put_commitment
-- Beside the event that names the hash.
insert into lineage.commitment (digest, salt, entities) values ($1, $2, $3);

-- name: entities_of_items
-- What items are in the graph; null: it does not know them yet.
select wanted.collection, wanted.item_id, p.entity
from unnest($1::text[], $2::text[]) as wanted (collection, item_id) left join lineage.entity_item as p using (collection, item_id);

-- name: visible_family
-- Names of products of a family that everybody may see.
select n.name from lineage.entity as n, lateral lineage.seen(n.id, federator.hidden_collections('{}'), '{}') as s
where n.family = $1 and s.items is not null order by n.name;

-- name: item_to_tell_of
-- Whether an item is there for the caller, whether he may write it, whether everybody may see it, and what it is in the graph.
select federator.may_write(i.collection, $4::text[]) as may_write, i.private is null and i.collection <> all (federator.hidden_collections('{}')) as is_public,
    p.entity
from pgstac.items as i left join lineage.entity_item as p on p.collection = i.collection and p.item_id = i.id
where i.collection = $1 and i.id = $2 and (i.private is null or federator.may_read(i.private, $3::text[]))
    and i.collection <> all (federator.hidden_collections($3::text[])) limit 1;

-- name: put_claim
-- Word for word; nothing comes back when it is known already.
insert into lineage.upstream_claim (collection, item_id, raw_sha256, entity, source, raw, verdict, details)
values ($1, $2, $3, $4, $5, $6, $7, $8) on conflict do nothing returning true as is_new;

-- name: lock_run
-- Events of one run come one after the other.
select pg_advisory_xact_lock(hashtext('lineage.run'), hashtext($1));

-- name: is_told
-- Whether an event is in the log or on its way.
select exists (select from lineage.event where id = $1) or exists (select from lineage.event_outbox where id = $1) as is_told;

-- name: run_owner
-- Who told of a run first, in the log or on its way.
select actor_id from (
    select actor_id, 0 as place from lineage.event where name = $1 and kind = 'STATE'
    union all select actor_id, 1 from lineage.event_outbox where name = $1 and kind = 'STATE'
) as e order by place limit 1;

-- name: run
-- One run, for its owner.
select * from lineage.run where id = $1 and (owner = $2 or 'role:admin' = any ($3::text[]));

-- name: put_watch
-- As many as one may have.
insert into lineage.watch (id, owner, kind, entity, name, from_seq)
select $1, $2, $3, $4, $5, $6 where (select count(*) from lineage.watch where owner = $2) < $7 returning created_at;

-- name: watches
-- Of one owner.
select id, kind, name, from_seq, created_at, entity from lineage.watch where owner = $1 and ($2::uuid is null or id = $2) order by created_at, id;

-- name: drop_watch
-- Of one owner.
delete from lineage.watch where owner = $1 and id = $2 returning id;

-- name: alerts
-- What happened to these entities that whoever built on them must know, for those who may see it.
select e.seq, e.id, e.kind, e.name, e.source, e.collection, e.item_id, e.actor_id, e.claimed_at, e.recorded_at, e.body, false as pending
from lineage.entity_item as i join lineage.event as e on e.collection = i.collection and e.item_id = i.item_id
where i.entity = any ($1::uuid[]) and e.kind in ('WITHDRAW', 'OBSOLETE', 'DELETE', 'REPLACE', 'RESTORE') and e.seq >= $2
    and e.seq < $5 and lineage.may_see(e.collection, e.item_id, $3::text[])
order by e.seq limit $4;

-- name: item_facts
-- What items that the caller has seen say of their lineage.
select collection, item_id, status, log_index, edges::text as edges from lineage.item_facts($1::text[], $2::text[], $3::text[], $4::text[]);

-- name: present_event
-- The event that made an item what it is, for those who may see it.
select lineage.present_event($1, $2, $3::text[]) as id;
