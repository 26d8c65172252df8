-- name: past_items
-- Documents that were changed after they were kept.
select collection, item_id from lineage.past_item
where doc is not null and sha256(convert_to(doc, 'UTF8')) is distinct from item_sha256 order by id limit 200;

-- name: keep_projections
-- As they are, before they are made again; to the transaction's end.
select lineage.keep_projections();

-- name: projections_that_differ
-- Rows that were there and are not made, and the other way round.
select * from lineage.projections_that_differ();

-- name: commitments
-- Those whose salt and parents do not give their hash (`lineage.commitments.digest_of`).
select encode(digest, 'hex') as digest from lineage.commitment
where digest <> sha256(salt || coalesce((select string_agg(uuid_send(one), '' order by one) from unnest(entities) as one), ''))
limit 200;

-- name: claims
-- Documents in the order of their key, and whether an event of who told them names them; those that wait for their number count.
select c.collection, c.item_id, c.raw_sha256, c.raw, exists (
    select from lineage.event as e
    where e.collection = c.collection and e.item_id = c.item_id and e.kind = 'CORRECT' and e.actor_id = c.source
        and position(encode(c.raw_sha256, 'hex') in e.body) > 0
) or exists (
    select from lineage.event_outbox as e
    where e.collection = c.collection and e.item_id = c.item_id and e.kind = 'CORRECT' and e.actor_id = c.source
        and position(encode(c.raw_sha256, 'hex') in e.body) > 0
) as is_logged
from lineage.upstream_claim as c where (c.collection, c.item_id, c.raw_sha256) > ($1, $2, $3)
order by c.collection, c.item_id, c.raw_sha256 limit $4;

-- name: missing_claims
-- Events that name a document which is not kept.
select e.seq from lineage.event as e
where e.kind = 'CORRECT' and position('"document":' in e.body) > 0 and e.body::jsonb #>> '{document,sha256}' is not null and not exists (
    select from lineage.upstream_claim as c
    where c.collection = e.collection and c.item_id = e.item_id and encode(c.raw_sha256, 'hex') = e.body::jsonb #>> '{document,sha256}')
order by e.seq limit 200;
