-- name: read
-- What is known of a collection's items.
select summary, rebuilding from federator.collection_summary where collection_id = $1;

-- name: lock
-- The same, held against other writers to the transaction's end.
select summary, rebuilding from federator.collection_summary where collection_id = $1 for update;

-- name: make
-- For a collection's first items. Another one may have been quicker.
insert into federator.collection_summary (collection_id, summary) values ($1, '{"properties": {}}') on conflict do nothing;

-- name: widen
-- Both the summary and the one that is being made anew.
update federator.collection_summary set summary = $2, rebuilding = $3 where collection_id = $1;

-- name: begin_soon
-- To be made anew as soon as may be, whatever has changed.
update federator.collection_summary set rebuilt_at = null where $1::text[] is null or collection_id = any ($1);

-- name: due
-- Collections whose summary is being made anew, must be, or has lost items since it was so many seconds ago, in this order.
select s.collection_id, s.rebuilding is not null as is_begun, c.churn
from federator.collection_summary as s
cross join lateral (
    select coalesce(sum(t.n_tup_del + t.n_tup_upd), 0)::bigint as churn
    from pgstac.partition_stats as p
    join pg_stat_all_tables as t on t.schemaname = 'pgstac' and t.relname = p.partition
    where p.collection = s.collection_id
) as c
where s.rebuilding is not null or s.rebuilt_at is null
    or (s.rebuilt_at < now() - make_interval(secs => $1) and s.churn <> c.churn)
order by s.rebuilding is null, s.rebuilt_at nulls first;

-- name: begin
-- The caller holds the collection's lock: writers of before have committed, those of later widen `rebuilding` too.
update federator.collection_summary
set rebuilding = '{"properties": {}}', reached_datetime = '-infinity', reached_id = '', churn = $2, rebuilt_at = now()
where collection_id = $1 and rebuilding is null;

-- name: try_slice
-- One worker at a time for each collection.
select s.reached_datetime::text as reached_datetime, s.reached_id from federator.collection_summary as s
where s.collection_id = $1 and s.rebuilding is not null and pg_try_advisory_xact_lock(hashtext('federator.summary'), hashtext($1));

-- name: slice
-- Items behind the place that was reached, in the order of the index. Times as texts where they are places, else within what Python knows.
select id, datetime::text as place, greatest(datetime, '0001-01-02Z') as first, least(end_datetime, '9999-12-30Z') as last,
    private is null as is_public, (content -> 'properties')::text as properties, (content -> 'bbox')::text as bbox
from pgstac.items
where collection = $1 and datetime >= $2::text::timestamptz and (datetime, id) > ($2::text::timestamptz, $3)
order by datetime, id limit $4;

-- name: reach
-- How far it has come.
update federator.collection_summary set rebuilding = $2, reached_datetime = $3::text::timestamptz, reached_id = $4 where collection_id = $1;

-- name: finish
-- All items were seen.
update federator.collection_summary set summary = $2, rebuilding = null where collection_id = $1;
