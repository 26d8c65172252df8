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
