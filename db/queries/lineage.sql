-- name: append
-- In the caller's transaction, together with the change that the events describe.
-- One JSON text: arrays of nine columns take the driver ten times as long.
insert into lineage.event_outbox (id, kind, name, source, collection, item_id, actor_id, claimed_at, body)
select e.* from json_to_recordset($1::text::json) as e (id uuid, kind text, name text, source text, collection text, item_id text, actor_id text,
    claimed_at timestamptz, body text);

-- name: try_sequencer_lock
-- One sequencer at a time, of all processes on all hosts; to the transaction's end.
select pg_try_advisory_xact_lock(hashtext('lineage.sequencer')) as locked;

-- name: take_outbox
-- Oldest first; what another transaction has not committed yet comes with a later batch.
delete from lineage.event_outbox
where position in (select position from lineage.event_outbox order by position limit $1)
returning position, id, kind, name, source, collection, item_id, actor_id, claimed_at, body;

-- name: copy_events
-- Numbers are given by the sequencer; a number taken twice is a primary-key violation and stops it.
copy lineage.event (seq, id, kind, name, source, collection, item_id, actor_id, claimed_at, recorded_at, body, body_hash, leaf, sig, key_id)
from stdin (format binary);

-- name: copy_hashes
-- Where a file's hash leads to the events that name it: each once an event.
copy lineage.event_hash (digest, alg, seq) from stdin (format binary);

-- name: newest_checkpoint
-- Head of the log.
select size, root, note, created_at from lineage.checkpoint order by size desc limit 1;

-- name: last_recorded
-- The database's clock must not go back within the log.
select clock_timestamp() as now, (select max(recorded_at) from lineage.event where seq = (select max(seq) from lineage.event)) as last;

-- name: widest_tiles
-- The newest state of these tiles: coordinates as two arrays.
select distinct on (t.level, t.idx) t.level, t.idx, t.data
from unnest($1::int[], $2::bigint[]) as wanted (level, idx)
join lineage.log_tile as t using (level, idx)
order by t.level, t.idx, t.width desc;

-- name: insert_tiles
-- Written once: the same tile with other bytes is a conflict and an alarm.
insert into lineage.log_tile (level, idx, width, data) select * from unnest($1::int[], $2::bigint[], $3::int[], $4::bytea[]);

-- name: drop_partial_tiles
-- A full tile makes its partial ones needless (tlog-tiles allows that).
select lineage.drop_partial_tiles(level, idx) from unnest($1::int[], $2::bigint[]) as full_ones (level, idx);

-- name: insert_checkpoint
-- One a batch.
insert into lineage.checkpoint (size, root, note) values ($1, $2, $3);

-- name: log_name
-- What the log is called in its leaves; none before it has begun.
select split_part(key_id, '+', 1) as name from lineage.signing_key where purpose = 'log' order by from_size limit 1;

-- name: signing_keys
-- All keys that ever signed.
select key_id, vkey, purpose, from_size, to_size, compromised_since, certificate from lineage.signing_key order by purpose, from_size;

-- name: lock_keys
-- Changes of keys are decided one after the other: one that cannot be done would stop the sequencer.
select pg_advisory_xact_lock(hashtext('lineage.keys'));

-- name: waiting_key_events
-- Changes of keys that have no number yet.
select body::jsonb as body from lineage.event_outbox where kind = 'KEY' order by position;

-- name: insert_signing_key
-- At the start of the log.
insert into lineage.signing_key (key_id, vkey, purpose, from_size, certificate) values ($1, $2, $3, $4, $5);

-- name: store_key
-- As a KEY event has it: a new key, or the end of one.
insert into lineage.signing_key (key_id, vkey, purpose, from_size, to_size, compromised_since, certificate) values ($1, $2, $3, $4, $5, $6, $7)
on conflict (key_id) do update set to_size = excluded.to_size, compromised_since = excluded.compromised_since;

-- name: insert_trace_signature
-- Signed once.
insert into lineage.trace_signature (event_id, message, signature, certificate) values ($1, $2, $3, $4);

-- name: event_by_id
-- With the façade's signature where there is one.
select e.*, t.message, t.signature, t.certificate
from lineage.event as e left join lineage.trace_signature as t on t.event_id = e.id
where e.id = $1
    and coalesce(e.collection <> all (array(select unnest(federator.hidden_collections($2::text[])))), true)
    and not exists (select from federator.hidden_items($2::text[]) as h where h.collection_id = e.collection and h.item_id = e.item_id)
    and federator.may_see_event(e.kind, e.name, $2::text[]);

-- name: pending_event
-- True while the event waits for its number.
select true as pending from lineage.event_outbox as e where id = $1
    and coalesce(collection <> all (array(select unnest(federator.hidden_collections($2::text[])))), true)
    and not exists (select from federator.hidden_items($2::text[]) as h where h.collection_id = e.collection and h.item_id = e.item_id)
    and federator.may_see_event(e.kind, e.name, $2::text[]);

-- name: events_of_item
-- Oldest first, then those that wait.
select seq, id, kind, name, source, actor_id, claimed_at, recorded_at, body, false as pending
from lineage.event as e where collection = $1 and item_id = $2
    and coalesce(collection <> all (array(select unnest(federator.hidden_collections($3::text[])))), true)
    and not exists (select from federator.hidden_items($3::text[]) as h where h.collection_id = e.collection and h.item_id = e.item_id)
union all
select null, id, kind, name, source, actor_id, claimed_at, null, body, true
from lineage.event_outbox as e where collection = $1 and item_id = $2
    and coalesce(collection <> all (array(select unnest(federator.hidden_collections($3::text[])))), true)
    and not exists (select from federator.hidden_items($3::text[]) as h where h.collection_id = e.collection and h.item_id = e.item_id)
order by seq nulls last, claimed_at;

-- name: events_from
-- The change feed: by number.
select seq, id, kind, name, source, collection, item_id, actor_id, claimed_at, recorded_at, body, false as pending
from lineage.event as e where seq >= $1
    and coalesce(collection <> all (array(select unnest(federator.hidden_collections($3::text[])))), true)
    and not exists (select from federator.hidden_items($3::text[]) as h where h.collection_id = e.collection and h.item_id = e.item_id)
    and federator.may_see_event(kind, name, $3::text[])
order by seq limit $2;

-- name: leaves_from
-- For the audit and the export, in portions. Times that somebody has made such that no program can read them become the outermost ones.
select seq, id, kind, name, source, collection, item_id, actor_id, body, body_hash, leaf, sig, key_id,
    greatest(least(claimed_at, '9999-12-31 23:59:59.999999+00'), '0001-01-01 00:00:00+00') as claimed_at,
    greatest(least(recorded_at, '9999-12-31 23:59:59.999999+00'), '0001-01-01 00:00:00+00') as recorded_at
from lineage.event where seq >= $1 order by seq limit $2;

-- name: tile
-- One tile as it is published.
select data from lineage.log_tile where level = $1 and idx = $2 and width = $3;

-- name: leaves_seen
-- Those leaves of a bundle whose events a caller may see.
select leaf from lineage.event as e where seq >= $1 and seq < $2
    and coalesce(e.collection <> all (array(select unnest(federator.hidden_collections($3::text[])))), true)
    and not exists (select from federator.hidden_items($3::text[]) as h where h.collection_id = e.collection and h.item_id = e.item_id)
    and federator.may_see_event(kind, name, $3::text[])
order by seq;

-- name: last_block
-- Of 256 events: the last one of which there is an event or a tile of leaves; -1: none.
-- One that was given a number of many digits is left out.
select greatest(
    (select least(max(seq), count(*) + 262144) / 256 from lineage.event),
    (select least(max(idx), count(*) + 4096) from lineage.log_tile where level = 0), -1) as block;

-- name: leaves_between
-- For the export.
select seq, body, leaf, sig,
    greatest(least(recorded_at, '9999-12-31 23:59:59.999999+00'), '0001-01-01 00:00:00+00') as recorded_at
from lineage.event where seq >= $1 and seq < $2 order by seq;

-- name: checkpoints_between
-- For the audit, in portions.
select size, root, note from lineage.checkpoint where size > $1 and size <= $2 order by size limit 100000;

-- name: checkpoints
-- For the export.
select size, root, note from lineage.checkpoint order by size;

-- name: checkpoints_of
-- Checkpoints of these sizes.
select size, root, note from lineage.checkpoint where size = any ($1::bigint[]);

-- name: revocations
-- What the log says of a key that it trusts no more.
select seq, body, leaf from lineage.event
where kind = 'KEY' and name = $1 and body::jsonb ->> 'action' = 'revoke' order by seq limit 16;

-- name: cosignatures
-- Witnesses' lines of these checkpoints.
select size, witness, line from lineage.cosignature where size = any ($1::bigint[]) order by size, witness;

-- name: cosigned_size
-- The checkpoint of at least so many events that most of these keys have cosigned, the newest of them, among the last 200 lines of any
-- key: as much is read for a key that never cosigned.
select size from (select size, witness from lineage.cosignature where size >= $1 order by size desc limit 200) as newest
where witness = any ($2::text[]) group by size order by count(*) desc, size desc limit 1;

-- name: insert_cosignature
-- Of a checkpoint, one a witness.
insert into lineage.cosignature (size, witness, line) values ($1, $2, $3) on conflict do nothing;

-- name: missing_hashes
-- For the audit: those of these that do not lead to their event.
select w.alg, w.seq from unnest($1::bytea[], $2::text[], $3::bigint[]) as w (digest, alg, seq)
where not exists (select from lineage.event_hash as h where h.digest = w.digest and h.alg = w.alg and h.seq = w.seq);

-- name: number_of_hashes
-- For the audit.
select count(*) as number from lineage.event_hash;

-- name: items_and_events
-- For the audit: items behind a place in their order, each with the newest event that says what it is.
select i.collection, i.id, pgstac.content_hydrate(i)::text as content, e.seq, e.kind, e.actor_id, e.item_sha256
from (
    select * from pgstac.items where (collection, id) > ($1, $2) order by collection, id limit $3
) as i
left join lateral (
    select seq, kind, actor_id, body::jsonb ->> 'item_sha256' as item_sha256 from (
        select seq, 0::bigint as position, kind, actor_id, body from lineage.event where collection = i.collection and item_id = i.id
        union all
        select null, position, kind, actor_id, body from lineage.event_outbox where collection = i.collection and item_id = i.id
    ) as every
    where kind in ('DELETE', 'WITHDRAW') or actor_id = 'unattributed' or body::jsonb ? 'item_sha256'
    order by seq desc nulls first, position desc limit 1
) as e on true
order by i.collection, i.id;

-- name: items_that_are_gone
-- For the audit: items whose newest event says that they are there, and that are not.
select collection, item_id, seq from (
    select distinct on (collection, item_id) collection, item_id, seq, kind, actor_id from (
        select collection, item_id, seq, 0::bigint as position, kind, actor_id, body from lineage.event where item_id is not null
        union all
        select collection, item_id, null, position, kind, actor_id, body from lineage.event_outbox where item_id is not null
    ) as every
    where kind in ('DELETE', 'WITHDRAW') or actor_id = 'unattributed' or body::jsonb ? 'item_sha256'
    order by collection, item_id, seq desc nulls first, position desc
) as newest
where kind not in ('DELETE', 'WITHDRAW')
    and not exists (select from pgstac.items as i where i.collection = newest.collection and i.id = newest.item_id)
order by collection, item_id limit 200;

-- name: without_trace_signature
-- For the audit: those of these events that the façade has not signed.
select w.id from unnest($1::uuid[]) as w (id) where not exists (select from lineage.trace_signature as t where t.event_id = w.id);

-- name: trace_signatures
-- For the audit: signatures of the façade, with the event that they are of.
select e.seq, e.kind, e.name, e.body, t.message, t.signature, t.certificate
from lineage.trace_signature as t join lineage.event as e on e.id = t.event_id where e.seq >= $1 order by e.seq limit $2;

-- name: all_tiles
-- For the audit.
select level, idx, width, data from lineage.log_tile order by level, idx, width;

-- name: newest_stamp
-- Size and age in seconds of the newest stamp; null where there is none.
select max(size) as size, extract(epoch from now() - max(created_at))::float8 as age_s from lineage.checkpoint_stamp;

-- name: insert_stamp
-- The first that came is kept.
insert into lineage.checkpoint_stamp (size, authority, stamped_at, reply) values ($1, $2, $3, $4) on conflict do nothing;

-- name: stamps
-- Newest first, below a size.
select size, authority, stamped_at from lineage.checkpoint_stamp where size < $1 order by size desc limit $2;

-- name: stamp
-- One, with the checkpoint that it is of.
select s.reply, c.note from lineage.checkpoint_stamp as s join lineage.checkpoint as c using (size) where s.size = $1;

-- name: all_stamps
-- For the audit.
select s.size, s.reply,
    greatest(least(s.stamped_at, '9999-12-31 23:59:59.999999+00'), '0001-01-01 00:00:00+00') as stamped_at, c.note
from lineage.checkpoint_stamp as s left join lineage.checkpoint as c using (size) order by s.size;
