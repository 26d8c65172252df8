-- name: item
-- For tiles: the item as it is now. Read through psycopg's raw cursor like all of ours.
select pgstac.get_item($1, $2) as item;

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
    (select count(*) from pgstac.items as i where i.collection = c.id) as items
from pgstac.collections as c order by c.id;

-- name: newest_items
-- Of one collection, by time.
select id, datetime from pgstac.items where collection = $1 order by datetime desc, id limit $2;

-- name: newest_uploads
-- For the start page.
select id, title, state, item_id, collection_id, error_code from federator.upload order by created_at desc limit $1;

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
-- An item that left the catalogue.
select successor_id, withdrawn_at from federator.harvested_item where collection_id = $1 and item_id = $2 and withdrawn_at is not null;

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

-- name: harvested_collections
-- What was harvested from each source, collections that are in the catalogue.
select distinct r.source_id, r.collection_id
from federator.harvest_run as r join pgstac.collections as c on c.id = r.collection_id
order by r.source_id, r.collection_id;
