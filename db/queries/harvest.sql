-- name: lock_items
-- Writers of one collection queue up, so that month partitions never deadlock (0 of 12 batches failed with one writer, 6 of 12 without).
select pg_advisory_xact_lock(hashtext('federator.items'), hashtext($1));

-- name: try_lock_run
-- Held by the session for the whole run: a second run of the same source and collection sees it, a dead one loses it.
select pg_try_advisory_lock(hashtext('federator.harvest'), hashtext($1)) as locked;

-- name: still_here
-- Fails when the session, and with it the run's lock, is gone.
select 1;

-- name: base_item
-- What pgstac adds to every item of the collection when it is read, so what need not be stored.
select b.base_item_id, b.base_item, c.partition_trunc
from pgstac.collections as c, pgstac.current_base_item(c.id) as b
where c.id = $1;

-- name: partitions_that_fit
-- Which of the asked partitions are there with check constraints that are wide enough: check_partition would find the same, at ten times the cost.
select asked.number, p.partition
from unnest($2::int[], $3::timestamptz[], $4::timestamptz[], $5::timestamptz[]) as asked (number, first, last, latest_end)
join pgstac.partition_stats as p on p.collection = $1 and p.partition_dtrange @> asked.first
cross join lateral pgstac.partition_catalog_meta(p.partition) as m
where m.constraint_dtrange @> tstzrange(asked.first, asked.last, '[]') and m.constraint_edtrange @> tstzrange(asked.first, asked.latest_end, '[]');

-- name: make_partitions
-- Makes partitions, or widens their check constraints. Asked for whole months: then a constraint is built once and not at every page.
select asked.number, federator.make_partition($1, tstzrange(asked.first, asked.last, '[]'), tstzrange(asked.first, asked.latest_end, '[]')) as partition
from unnest($2::int[], $3::timestamptz[], $4::timestamptz[], $5::timestamptz[]) as asked (number, first, last, latest_end);

-- name: note_partitions
-- What pgstac's statement trigger on the parent table would do after rows were stored. Without extents to keep there is nothing:
-- the partitions are in pgstac's list since they were made.
select pgstac.update_partition_stats_q(name, true) from unnest($1::text[]) as name where pgstac.get_setting_bool('update_collection_extent');

-- name: delete_items
-- With the old datetime PostgreSQL looks into one partition per item and not into all months. Returns who may read those that not all may.
with gone as (
    delete from pgstac.items as i
    using unnest($2::text[], $3::timestamptz[]) as old (id, datetime)
    where i.collection = $1 and i.id = old.id and i.datetime = old.datetime
    returning i.id, i.private
)
select id, private::text as private from gone where private is not null;

-- name: delete_items_anywhere
-- For items whose datetime we do not know: looks into every partition of the collection.
with gone as (delete from pgstac.items where collection = $1 and id = any($2::text[]) returning id, private)
select id, private::text as private from gone where private is not null;

-- name: put_readers
-- Who may read items that were written anew.
select federator.put_readers($1, $2::text[], $3::text[]);

-- name: begin_load
-- Rows are copied from here on, and their footprints noted at the end; and where the server was built with it, lz4 takes a third of pglz's time.
select federator.begin_load(), (
    select set_config('default_toast_compression', 'lz4', true) from pg_settings
    where name = 'default_toast_compression' and 'lz4' = any(enumvals)
);

-- name: end_load
-- All rows are copied; their footprints (EWKB).
select federator.end_load($1, $2::bytea[]);

-- name: copy_items
-- Into one partition, which the caller names: its name is an identifier and no value.
copy pgstac.{} (id, collection, datetime, end_datetime, geometry, content) from stdin (format binary);

-- name: copy_packed_items
-- Beside the items, for the API.
copy federator.packed_item (collection, id, body) from stdin (format binary);

-- name: insert_items
-- Through the parent table: pgstac's statement triggers keep its partition statistics. ON CONFLICT needs no target here;
-- the caller compares what came back with what it sent.
insert into pgstac.items (id, collection, datetime, end_datetime, geometry, content)
select new.id, $1, new.datetime, new.end_datetime, new.geometry::public.geometry, new.content::jsonb
from unnest($2::text[], $3::timestamptz[], $4::timestamptz[], $5::text[], $6::text[])
    as new (id, datetime, end_datetime, geometry, content)
on conflict do nothing
returning id;

-- name: collection_ids
-- Collections that are there.
select id from pgstac.collections;

-- name: collection_patches
-- What the operator's files say of collections.
select collection_id, patch from federator.collection_file;

-- name: keep_patches
-- Those that there are now.
insert into federator.collection_file as f (collection_id, patch)
select * from unnest($1::text[], $2::text[]::jsonb[])
on conflict (collection_id) do update set patch = excluded.patch where f.patch <> excluded.patch;

-- name: drop_patches
-- Files that are gone.
delete from federator.collection_file where collection_id <> all ($1::text[]);

-- name: arrange_queryables
-- Names whose queryables were brought to what those files ask.
select name from federator.arrange_queryables() as a (name);

-- name: patiently
-- For this transaction, which builds an index: as long as it takes, and a minute for writers to let it begin.
select set_config('statement_timeout', '0', true), set_config('lock_timeout', '60s', true);

-- name: run_queued
-- One statement of pgstac's queue, if there is one.
select pgstac.run_queued_query() as did_run;

-- name: upsert_collection
-- Leaves the extent alone, which grows with the items; true when something was written.
insert into pgstac.collections (content, partition_trunc) values ($1, $2)
on conflict (id) do update
set content = excluded.content || jsonb_build_object('extent', pgstac.collections.content -> 'extent')
where (pgstac.collections.content - 'extent') is distinct from (excluded.content - 'extent')
returning id;

-- name: start_run
-- The caller holds the lock of this source and collection, so a running row of it belongs to a process that has died.
with dead as (
    update federator.harvest_run set status = 'interrupted', finished_at = heartbeat_at, error = 'the process ended without saying so'
    where source_id = $1 and collection_id = $2 and status = 'running'
)
insert into federator.harvest_run (source_id, collection_id, query_key) values ($1, $2, $3)
returning id;

-- name: finish_run
-- Last word of a run.
update federator.harvest_run set status = $2, finished_at = now(), heartbeat_at = now(), error = $3
where id = $1 and status = 'running';

-- name: beat_run
-- Sign of life while an upstream makes us wait.
update federator.harvest_run set heartbeat_at = now() where id = $1 and status = 'running';

-- name: interrupt_silent_runs
-- For the worker's sweep: a run that has not beaten for this many seconds is dead.
update federator.harvest_run set status = 'interrupted', finished_at = heartbeat_at, error = 'the process ended without saying so'
where status = 'running' and heartbeat_at < now() - make_interval(secs => $1);

-- name: count_page
-- In the page's transaction: counts never say more than what is stored.
update federator.harvest_run
set pages = pages + 1, fetched = fetched + $2, added = added + $3, changed = changed + $4, unchanged = unchanged + $5,
    quarantined = quarantined + $6, total = coalesce($7, total), heartbeat_at = now()
where id = $1;

-- name: load_cursor
-- Where this source and collection resume, and when the run that wrote it began.
select c.position, c.complete, r.started_at
from federator.harvest_cursor as c join federator.harvest_run as r on r.id = c.run_id
where c.source_id = $1 and c.collection_id = $2 and c.query_key = $3;

-- name: save_cursor
-- Never moves back to an older run: a worker that wakes up late must not undo a newer one.
insert into federator.harvest_cursor as c (source_id, collection_id, query_key, position, complete, run_id)
values ($1, $2, $3, $4, false, $5)
on conflict (source_id, collection_id, query_key) do update
set position = excluded.position, complete = false, run_id = excluded.run_id, updated_at = now()
where c.run_id <= excluded.run_id;

-- name: complete_cursor
-- The source had no more: the next run starts an overlap before this place.
update federator.harvest_cursor set complete = true, run_id = $4, updated_at = now()
where source_id = $1 and collection_id = $2 and query_key = $3 and run_id <= $4;

-- name: drop_cursor
-- A limited run that reached its end has nothing to resume; the same command starts again from its beginning.
delete from federator.harvest_cursor where source_id = $1 and collection_id = $2 and query_key = $3;

-- name: holdings_of_records
-- What this source delivered before under these record ids. One look into the index for each: a plan that was made when the table was small
-- would read all of the source for every page, until the table is analyzed.
select h.* from unnest($3::text[]) as wanted (record_id) cross join lateral (
    select record_id, acquisition, record_sha256, mapping_version, withdrawn_at is not null as is_withdrawn
    from federator.holding
    where source_id = $1 and collection_id = $2 and record_id = wanted.record_id
    limit 1
) as h;

-- name: items_of_acquisitions
-- Items as they were written last, with those that left the catalogue.
select item_id, acquisition, product, datetime, content_sha256, successor_id, withdrawn_at is not null as is_withdrawn
from federator.harvested_item
where collection_id = $1 and acquisition = any($2::text[]);

-- name: items_not_stored
-- Items that should be there and are not: somebody deleted them behind our back.
select h.item_id from federator.harvested_item as h
where h.collection_id = $1 and h.acquisition = any($2::text[]) and h.withdrawn_at is null
    and not exists (
        select from pgstac.items as i where i.collection = h.collection_id and i.id = h.item_id and i.datetime = h.datetime
    );

-- name: holdings_of_acquisitions
-- Every source's copies of these acquisitions, to settle them anew.
select source_id, record_id, item_id, acquisition, product, record
from federator.holding
where collection_id = $1 and acquisition = any($2::text[]) and withdrawn_at is null;

-- name: put_harvested_items
-- Sorted by the caller. An item that comes back is in the catalogue again.
insert into federator.harvested_item as h
    (collection_id, item_id, acquisition, product, datetime, item_sha256, content_sha256, successor_id)
select $1, new.item_id, new.acquisition, new.product, new.datetime, new.item_sha256, new.content_sha256, new.successor_id
from unnest($2::text[], $3::text[], $4::text[], $5::timestamptz[], $6::bytea[], $7::bytea[], $8::text[])
    as new (item_id, acquisition, product, datetime, item_sha256, content_sha256, successor_id)
on conflict (collection_id, item_id) do update
set acquisition = excluded.acquisition, product = excluded.product, datetime = excluded.datetime, item_sha256 = excluded.item_sha256,
    content_sha256 = excluded.content_sha256, successor_id = excluded.successor_id, withdrawn_at = null, withdrawn_because = null;

-- name: withdraw_items
-- The items leave the catalogue; their ids and what follows them stay known.
update federator.harvested_item as h
set withdrawn_at = now(), withdrawn_because = $4, successor_id = gone.successor_id
from unnest($2::text[], $3::text[]) as gone (item_id, successor_id)
where h.collection_id = $1 and h.item_id = gone.item_id;

-- name: put_holdings
-- A record that came again keeps its first_seen; one that was taken back is offered again.
insert into federator.holding as h
    (source_id, collection_id, record_id, item_id, acquisition, product, record, record_sha256, mapping_version, published, sensed)
select $1, $2, new.record_id, new.item_id, new.acquisition, new.product, new.record, new.record_sha256, $3, new.published, new.sensed
from unnest($4::text[], $5::text[], $6::text[], $7::text[], $8::bytea[], $9::bytea[], $10::timestamptz[], $11::timestamptz[])
    as new (record_id, item_id, acquisition, product, record, record_sha256, published, sensed)
on conflict (source_id, collection_id, record_id) do update
set item_id = excluded.item_id, acquisition = excluded.acquisition, product = excluded.product, record = excluded.record,
    record_sha256 = excluded.record_sha256, mapping_version = excluded.mapping_version, published = excluded.published,
    sensed = excluded.sensed, last_seen = now(), withdrawn_at = null, withdrawn_because = null;

-- name: move_holdings
-- Holdings that stand for another item now.
update federator.holding as h set item_id = moved.item_id
from unnest($2::text[], $3::text[], $4::text[]) as moved (source_id, record_id, item_id)
where h.collection_id = $1 and h.source_id = moved.source_id and h.record_id = moved.record_id;

-- name: touch_holdings
-- Seen again, nothing new. Once a day is enough to know, and spares a write a record.
update federator.holding set last_seen = now()
where source_id = $1 and collection_id = $2 and record_id = any($3::text[]) and last_seen < now() - interval '1 day';

-- name: withdraw_holdings
-- The source took these records back; returns what they stood for. One that it has published anew since then stays.
update federator.holding as h set withdrawn_at = now(), withdrawn_because = $3
from unnest($4::text[], $5::timestamptz[]) as gone (record_id, at)
where h.source_id = $1 and h.collection_id = $2 and h.record_id = gone.record_id and h.withdrawn_at is null
    and (gone.at is null or h.published is null or h.published <= gone.at)
returning h.record_id, h.acquisition;

-- name: put_quarantine
-- Refused again: counted, with the newest bytes and reason.
insert into federator.quarantine as q (source_id, collection_id, record_id, record, code, detail)
select $1, $2, new.record_id, new.record, new.code, new.detail
from unnest($3::text[], $4::bytea[], $5::text[], $6::text[]) as new (record_id, record, code, detail)
on conflict (source_id, collection_id, record_id) do update
set record = excluded.record, code = excluded.code, detail = excluded.detail, last_seen = now(), tries = q.tries + 1;

-- name: leave_quarantine
-- These records are good now.
delete from federator.quarantine where source_id = $1 and collection_id = $2 and record_id = any($3::text[]);

-- name: list_quarantine
-- Newest first, for `python -m ingest quarantine list`; null means any.
select source_id, collection_id, record_id, code, detail, first_seen, last_seen, tries
from federator.quarantine
where ($1::text is null or source_id = $1) and ($2::text is null or code = $2)
order by last_seen desc, source_id, record_id
limit $3;

-- name: defer_job
-- Enqueues in the caller's transaction; a job with the same queueing lock that still waits makes it a unique violation.
select (procrastinate_defer_jobs_v1(array[
    row($1, $2, 0, $3, $4, $5, null)::procrastinate_job_to_defer_v1
]))[1] as id;

-- name: count_held
-- What is held of a window of publication (axis published) or sensing time: live holdings whose item is in the catalogue.
select count(*) as held from federator.holding as h
join federator.harvested_item as w on w.collection_id = h.collection_id and w.item_id = h.item_id
join pgstac.items as i on i.collection = h.collection_id and i.id = h.item_id and i.datetime = w.datetime
where h.source_id = $1 and h.collection_id = $2 and h.withdrawn_at is null
    and case when $3 = 'sensed' then h.sensed >= $4 and h.sensed < $5 else h.published >= $4 and h.published < $5 end
    and ($6::text is null or public.st_intersects(i.geometry, public.st_geomfromewkt($6)));

-- name: list_held
-- The same, by record.
select h.record_id from federator.holding as h
join federator.harvested_item as w on w.collection_id = h.collection_id and w.item_id = h.item_id
join pgstac.items as i on i.collection = h.collection_id and i.id = h.item_id and i.datetime = w.datetime
where h.source_id = $1 and h.collection_id = $2 and h.withdrawn_at is null
    and case when $3 = 'sensed' then h.sensed >= $4 and h.sensed < $5 else h.published >= $4 and h.published < $5 end
    and ($6::text is null or public.st_intersects(i.geometry, public.st_geomfromewkt($6)));

-- name: count_source
-- How many holdings a source has of a collection.
select count(*) as held from federator.holding where source_id = $1 and collection_id = $2 and withdrawn_at is null;

-- name: quarantined_of
-- Which of these records are in quarantine.
select record_id from federator.quarantine where source_id = $1 and collection_id = $2 and record_id = any($3::text[]);

-- name: put_census
-- One row a period and an area.
insert into federator.census (source_id, collection_id, since, until, bbox, expected, held, missing, extra, quarantined, healed)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11);

-- name: records_in_quarantine
-- Refused records to be tried again, oldest first; null means any.
select source_id, collection_id, record_id, record
from federator.quarantine
where ($1::text is null or source_id = $1) and ($2::text is null or code = $2) and (source_id, collection_id, record_id) > ($3, $4, $5)
order by source_id, collection_id, record_id
limit $6;

-- name: holdings_to_compare
-- Which of these records are held of a source's collections, as they are held.
select record_id, collection_id, record, published, withdrawn_at from federator.holding
where source_id = $1 and collection_id = any($2::text[]) and record_id = any($3::text[]);

-- name: count_withdrawn
-- What a run took back.
update federator.harvest_run set withdrawn = withdrawn + $2 where id = $1;

-- name: report_run
-- What a run cost, and which upstream fields nobody read.
update federator.harvest_run set requests = $2, retries = $3, bytes = $4, unread = $5 where id = $1;

-- name: sweep_left_places
-- Walks that are older than this meet what has moved a second time.
delete from federator.left_place where at < now() - interval '2 hours';

-- name: take_unpacked
-- Items that wait to be packed; others leave them alone meanwhile.
select collection, id from federator.unpacked_item order by collection, id limit $1 for update skip locked;

-- name: items_to_pack
-- As they are stored, locked against changes; those with readers of their own are not packed.
select i.collection, i.id, public.st_asgeojson(i.geometry, 20) as geometry, i.content::text as content,
    greatest(i.datetime, '0001-01-02Z') as first, least(i.end_datetime, '9999-12-30Z') as last
from unnest($1::text[], $2::text[]) as waiting (collection, id)
join pgstac.items as i on i.collection = waiting.collection and i.id = waiting.id
where i.private is null
for share of i;

-- name: base_item_of
-- What pgstac adds to items of a collection that were stored against this base item; null: against the first.
select pgstac.collection_base_item($1, $2::int) as base_item;

-- name: put_packed
-- Ready to be answered.
insert into federator.packed_item (collection, id, body)
select * from unnest($1::text[], $2::text[], $3::bytea[])
on conflict (collection, id) do update set body = excluded.body;

-- name: drop_unpacked
-- They wait no more.
delete from federator.unpacked_item as u using unnest($1::text[], $2::text[]) as done (collection, id)
where u.collection = done.collection and u.id = done.id;
