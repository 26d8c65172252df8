-- name: put
-- Asked for with the event of the product; what waits already waits no longer than before.
insert into federator.lineage_due as d (source_id, collection_id, item_id, product, asset, href)
select $1, $2, new.item_id, new.product, new.asset, new.href
from unnest($3::text[], $4::text[], $5::text[], $6::text[]) as new (item_id, product, asset, href)
on conflict (source_id, collection_id, item_id, asset) do update
set product = excluded.product, href = excluded.href, due_at = now(), tries = 0;

-- name: put_held
-- All that a source holds of a collection and that has no trace yet, for those who name a service later.
insert into federator.lineage_due (source_id, collection_id, item_id, product)
select distinct on (h.item_id) h.source_id, h.collection_id, h.item_id, h.product
from federator.holding as h
where h.source_id = $1 and h.collection_id = $2 and h.withdrawn_at is null and not exists (
    select from lineage.foreign_trace as f
    where f.origin_kind = 'upstream' and f.collection = h.collection_id and f.item_id = h.item_id)
order by h.item_id, h.record_id
on conflict do nothing;

-- name: next
-- What one run asks, the longest due first.
select item_id, product, asset, href, tries from federator.lineage_due
where source_id = $1 and collection_id = $2 and due_at <= now() order by due_at, item_id, asset limit $3;

-- name: done
-- With what was answered; a row that was put again meanwhile stays.
delete from federator.lineage_due where source_id = $1 and collection_id = $2 and item_id = $3 and asset = $4 and product = $5 and href = $6;

-- name: later
-- Nothing was there yet; after so many tries nothing is expected any more.
with gone as (
    delete from federator.lineage_due where source_id = $1 and collection_id = $2 and item_id = $3 and asset = $4 and tries + 1 >= $6
)
update federator.lineage_due set tries = tries + 1, due_at = now() + make_interval(secs => $5)
where source_id = $1 and collection_id = $2 and item_id = $3 and asset = $4 and tries + 1 < $6;

-- name: behind_others
-- The upstream did not answer about it.
update federator.lineage_due set due_at = clock_timestamp() where source_id = $1 and collection_id = $2 and item_id = $3 and asset = $4;

-- name: still_there
-- Locked against a withdrawal meanwhile: nothing is told of an item that is gone.
select true as is_there from federator.harvested_item where collection_id = $1 and item_id = $2 and withdrawn_at is null for share;

-- name: waiting
-- How many are to be asked about, by source and collection.
select source_id, collection_id, count(*) as waiting, count(*) filter (where asset <> '') as documents
from federator.lineage_due group by 1, 2 order by 1, 2;
