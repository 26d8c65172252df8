-- name: item
-- For tiles: the item as it is now and as it is stored, its version, whether everybody may see it, and the principals that it was read with:
-- of a signer ($4) only what his are worth now. What pgstac merges into it comes along: pgstac.get_item merges in SQL, three times as long.
-- Read through psycopg's raw cursor like all of ours.
select f.collection, f.id, f.packed, f.geometry, f.content,
    case when f.packed is null then pgstac.collection_base_item($2, (f.content::jsonb ->> 'pgstac:base_item')::int) end as base,
    $2 <> all (federator.hidden_collections('{}'))
        and not exists (select from pgstac.items where id = $1 and collection = $2 and private is not null) as is_public, c.principals,
    federator.item_version($2, $1) as version
from (select case when $4 then federator.present_principals($3::text[]) else $3::text[] end as principals) as c,
    federator.item($2, $1, c.principals) as f;

-- name: present_principals
-- Of these principals those that the database knows.
select federator.present_principals($1::text[]) as principals;

-- name: has_item
-- Whether there is one that the caller may see.
select true as found from pgstac.items
where id = $1 and collection = $2 and $2 <> all (federator.hidden_collections($3::text[]))
    and (private is null or federator.may_read(private, $3::text[]));

-- name: secret
-- What something is signed with (`page-token`, `access-token`, `tile-url`); the same for all processes.
select value from federator.secret where name = $1;

-- name: sources
-- Newest run, cursor and refused records per source and collection; the plain cursor only, not those of limited runs.
select r.source_id, r.collection_id, r.status, r.started_at, r.finished_at, r.fetched, r.added, r.changed, r.unchanged, r.quarantined, r.withdrawn, r.total, r.requests, r.retries, r.bytes, r.unread,
    r.error is not null as has_error, c.position, c.updated_at as cursor_updated_at,
    (select count(*) from federator.quarantine as q where q.source_id = r.source_id and q.collection_id = r.collection_id) as in_quarantine,
    (select count(*) from federator.holding as h
        where h.source_id = r.source_id and h.collection_id = r.collection_id and h.withdrawn_at is null) as holdings
from (
    select distinct on (source_id, collection_id) * from federator.harvest_run order by source_id, collection_id, id desc
) as r
left join federator.harvest_cursor as c
    on c.source_id = r.source_id and c.collection_id = r.collection_id and c.query_key = '';

-- name: collections
-- For people: titles and how many items, counted.
select c.id, c.content ->> 'title' as title, c.content ->> 'description' as description,
    (select count(*) from pgstac.items as i where i.collection = c.id and (i.private is null or federator.may_read(i.private, $1::text[]))) as items
from pgstac.collections as c where c.id <> all (federator.hidden_collections($1::text[])) order by c.id;

-- name: newest_items
-- Of one collection, by time.
select id, datetime from pgstac.items
where collection = $1 and (private is null or federator.may_read(private, $3::text[])) order by datetime desc, id limit $2;

-- name: newest_uploads
-- For the start page: the caller's own, and those whose items he may see.
select id, title, state, item_id, collection_id, error_code from federator.upload as u
where exists (select from federator.readable_uploads(array[u.id], $2::text[]))
order by created_at desc limit $1;

-- name: hidden_collections
-- Collections that a caller may not see.
select unnest(federator.hidden_collections($1::text[])) as id;

-- name: upload_states
-- For the metrics.
select state, count(*) as uploads from federator.upload group by state;

-- name: workers
-- Workers that have beaten within the last half minute.
select count(*) as alive from procrastinate_workers where last_heartbeat > now() - interval '30 seconds';

-- name: log_state
-- Size of the log and how many events wait.
select coalesce((select max(size) from lineage.checkpoint), 0) as size, (select count(*) from lineage.event_outbox) as waiting;

-- name: ping
-- Does the database answer.
select 1 as one;

-- name: withdrawn_item
-- An item that left the catalogue, if the caller could see it there.
select successor_id, withdrawn_at from federator.harvested_item as w
where collection_id = $1 and item_id = $2 and withdrawn_at is not null
    and not exists (select from federator.hidden_items($3::text[]) as h where h.collection_id = w.collection_id and h.item_id = w.item_id);

-- name: lags
-- Of the newest thousand records of each source and collection: seconds from sensing to publication and from there into our catalogue.
select r.source_id, r.collection_id,
    percentile_cont(array[0.5, 0.9, 0.99]) within group (order by extract(epoch from h.published - h.sensed)) as published_after_sensed_s,
    percentile_cont(array[0.5, 0.9, 0.99]) within group (order by extract(epoch from h.first_seen - h.published)) as indexed_after_published_s
from (select distinct source_id, collection_id from federator.harvest_run) as r
cross join lateral (
    select published, sensed, first_seen from federator.holding as h
    where h.source_id = r.source_id and h.collection_id = r.collection_id and h.withdrawn_at is null and h.published is not null
    order by h.published desc limit 1000
) as h
group by r.source_id, r.collection_id;

-- name: upstreams
-- Budget and breaker of each upstream that was asked.
select source_id, failures, open_until,
    case when month = date_trunc('month', now() at time zone 'UTC')::date then month_requests else 0 end as requests_this_month
from federator.upstream;

-- name: coverage
-- The newest census of each period and area, newest period first.
select * from (
    select distinct on (source_id, collection_id, since, until, bbox) source_id, collection_id, since, until, bbox, as_of,
        expected, held, missing, extra, quarantined, healed
    from federator.census order by source_id, collection_id, since, until, bbox, as_of desc
) as newest
order by source_id, collection_id, since desc
limit 2000;

-- name: offers
-- Which source offers which collection that the caller may see.
select source_id, collection_id from federator.offers($1::text[]);

-- name: backends
-- How each source answers that was ever asked.
select source_id, is_offline, checked_at, answered_at from federator.backends();

-- name: search_plan
-- What pgstac makes of a search without place and time.
select condition, keys::text as keys from federator.search_plan($1::text::jsonb);

-- name: search_page
-- Rows of a page, the one at its edge nearest first: of a place and time, and what was planned of the rest.
select collection, id, packed, geometry, content, sort_values
from federator.search_page(
    '(' || federator.condition($1::text::jsonb) || ') and (' || $2 || ')', $3::text::jsonb, $4::text[], $5::text[], $6, $7, $8::timestamptz[], $9);

-- name: newest_page
-- The same for a search that is sorted as when nobody says how, with the plan made on the way.
select collection, id, packed, geometry, content, sort_values
from federator.search_page(
    federator.condition($1::text::jsonb), federator.newest_first(), $2::text[], $3::text[], $4, $5, $6::timestamptz[], $7);

-- name: search_count
-- Counted.
select federator.search_count(federator.condition($1::text::jsonb), $2::text[]) as matched;

-- name: search_estimate
-- What the planner expects.
select matched, cost from federator.search_estimate(federator.condition($1::text::jsonb), $2::text[]);

-- name: partitions
-- What holds items: of which collection, from when to when, how many rows by the last analysis (-1: none yet), bytes, and whether everybody may
-- see the collection.
select s.collection, lower(s.partition_dtrange) as first, upper(s.partition_dtrange) as after, c.reltuples::bigint as rows,
    pg_relation_size(c.oid) as bytes, coalesce(a.visibility = 'public', true) as is_public
from pgstac.partition_stats as s
join pg_class as c on c.relname = s.partition and c.relnamespace = 'pgstac'::regnamespace
left join federator.collection_access as a on a.collection_id = s.collection;

-- name: item_row
-- One item as it is stored, if the caller may see it.
select collection, id, packed, geometry, content from federator.item($1, $2, $3::text[]);

-- name: base_item
-- What pgstac adds to items of a collection that were stored against this base item; null: against the first.
select pgstac.collection_base_item($1, $2) as base_item;

-- name: find_collections
-- A page of collections, each with the number of all.
select content, matched from federator.collections($1::text::jsonb, $2::text[]);

-- name: count_collections
-- All that a search finds.
select federator.count_collections($1::text::jsonb, $2::text[]) as matched;

-- name: collection
-- One collection, if the caller may see it.
select federator.collection($1, $2::text[]) as content;

-- name: property_facts
-- Of these collections, or (null) of all.
select collections, registered, summaries, is_open from federator.property_facts($1::text[], $2::text[]);

-- name: aggregate
-- How many items a search finds, when the first begins and the last ends, and how many are in each bucket.
select matched, first, last, buckets from federator.aggregate(federator.condition($1::text::jsonb), $2::text[], $3::text::jsonb, $4);

-- name: wal_written
-- How far the primary has written its log. On a server that is promoted or none the same is asked of what it has read.
select (case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_lsn() end)::text as lsn;

-- name: wal_inserted
-- How far the primary has made its log, written or not: without synchronous_commit the news of a change is here before the log of it is written.
select (case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_insert_lsn() end)::text as lsn;

-- name: wal_replayed
-- How far a replica has read it; a server that replays nothing has everything.
select coalesce(case when pg_is_in_recovery() then pg_last_wal_replay_lsn() end, 'FFFFFFFF/FFFFFFFF'::pg_lsn)::text as lsn;
