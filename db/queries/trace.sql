-- name: by_name
-- Events of a product from a number on that are traces, for those who may see them. Foreign traces that are told of an item are checks of it.
with chosen as materialized (
    select e.seq, e.id, e.kind, e.name, e.source, e.recorded_at, e.body from lineage.event as e
    where e.name = any ($1::text[]) and e.seq >= $3
        and (e.kind = any ($2::text[]) and e.item_id is not null
            or exists (select from lineage.foreign_trace as f where f.event_id = e.id and f.is_passed_on))
        and coalesce(e.collection <> all (array(select unnest(federator.hidden_collections($5::text[])))), true)
        and not exists (select from federator.hidden_items($5::text[]) as h where h.collection_id = e.collection and h.item_id = e.item_id)
    order by e.seq limit $4
)
select c.*, f.message, f.signature, f.certificate, f.foreign_raw, f.foreign_kind, f.foreign_origin, f.foreign_key, f.before
from chosen as c join lineage.trace_facts(array(select seq from chosen)) as f using (seq) order by c.seq;

-- name: by_hash
-- Events that name this hash, those that end an item which had it until then, and foreign traces that name it. A hash that very many
-- events name is followed to its end in the first two hundred of them.
with named as materialized (
    select h.seq from lineage.event_hash as h where h.digest = $1 order by h.seq limit 200
), ended as materialized (
    select c.seq, max(a.seq) as named_by
    from named as n join lineage.event as a on a.seq = n.seq
    join lineage.event as c on c.collection = a.collection and c.item_id = a.item_id and c.seq > a.seq
    where c.kind in ('DELETE', 'OBSOLETE', 'WITHDRAW', 'REPLACE', 'RESTORE') and a.kind in ('CREATE', 'REPLACE', 'REGISTER', 'COPY', 'UPDATE')
        and c.seq >= $3 and (c.kind <> 'REPLACE' or lineage.replaces(c.body::jsonb, a.body::jsonb)) and not exists (
            select from lineage.event as b
            where b.collection = a.collection and b.item_id = a.item_id and b.kind = 'REPLACE' and b.seq > a.seq and b.seq < c.seq
                and lineage.replaces(b.body::jsonb, a.body::jsonb))
    group by c.seq
), candidates as (
    (select h.seq from lineage.event_hash as h join lineage.event as e using (seq)
        where h.digest = $1 and h.seq >= $3 and e.kind = any ($2::text[]) and e.item_id is not null
            and coalesce(e.collection <> all (array(select unnest(federator.hidden_collections($5::text[])))), true)
            and not exists (select from federator.hidden_items($5::text[]) as p where p.collection_id = e.collection and p.item_id = e.item_id)
        order by h.seq limit $4)
    union select seq from ended
    union select e.seq from lineage.foreign_trace_hash as h join lineage.foreign_trace as f using (event_id) join lineage.event as e on e.id = f.event_id
        where h.digest = $1 and f.is_passed_on and e.seq >= $3
), chosen as materialized (
    select e.seq, e.id, e.kind, e.name, e.source, e.recorded_at, e.body from candidates as k join lineage.event as e using (seq)
    where (e.kind = any ($2::text[]) and e.item_id is not null
            or exists (select from lineage.foreign_trace as f where f.event_id = e.id and f.is_passed_on))
        and coalesce(e.collection <> all (array(select unnest(federator.hidden_collections($5::text[])))), true)
        and not exists (select from federator.hidden_items($5::text[]) as h where h.collection_id = e.collection and h.item_id = e.item_id)
    order by e.seq limit $4
)
select c.*, f.message, f.signature, f.certificate, f.foreign_raw, f.foreign_kind, f.foreign_origin, f.foreign_key, coalesce(a.body, f.before) as before
from chosen as c join lineage.trace_facts(array(select seq from chosen)) as f using (seq)
left join ended on ended.seq = c.seq left join lineage.event as a on a.seq = ended.named_by
order by c.seq;

-- name: obsolete
-- Events of products with this beginning of their name that made something obsolete, recorded within a time.
with candidates as (
    (select e.seq from lineage.event as e
        where e.kind in ('OBSOLETE', 'WITHDRAW', 'REPLACE') and e.seq >= $4 and starts_with(e.name, $1)
            and ($2::timestamptz is null or e.recorded_at >= $2) and ($3::timestamptz is null or e.recorded_at < $3)
            and (e.item_id is not null or exists (select from lineage.foreign_trace as f where f.event_id = e.id and f.is_passed_on))
            and coalesce(e.collection <> all (array(select unnest(federator.hidden_collections($6::text[])))), true)
            and not exists (select from federator.hidden_items($6::text[]) as h where h.collection_id = e.collection and h.item_id = e.item_id)
        order by e.seq limit $5)
    union
    (select e.seq from lineage.foreign_trace as f join lineage.event as e on e.id = f.event_id
        where f.event = 'OBSOLETE' and f.is_passed_on and e.seq >= $4 and starts_with(f.product_name, $1)
            and ($2::timestamptz is null or e.recorded_at >= $2) and ($3::timestamptz is null or e.recorded_at < $3)
            and coalesce(e.collection <> all (array(select unnest(federator.hidden_collections($6::text[])))), true)
            and not exists (select from federator.hidden_items($6::text[]) as h where h.collection_id = e.collection and h.item_id = e.item_id)
        order by e.seq limit $5)
), chosen as materialized (
    select e.seq, e.id, e.kind, e.name, e.source, e.recorded_at, e.body from candidates join lineage.event as e using (seq) order by e.seq limit $5
)
select c.*, f.message, f.signature, f.certificate, f.foreign_raw, f.foreign_kind, f.foreign_origin, f.foreign_key, f.before
from chosen as c join lineage.trace_facts(array(select seq from chosen)) as f using (seq) order by c.seq;

-- name: by_id
-- The event of a trace, by its own id or by the one that an upstream gave it.
with chosen as materialized (
    select e.seq, e.id, e.kind, e.name, e.source, e.recorded_at, e.body from lineage.event as e
    where e.id in (select $1::uuid union select f.event_id from lineage.foreign_trace as f where f.trace_id = $2 and f.is_passed_on)
        and (e.kind = any ($3::text[]) and e.item_id is not null
            or exists (select from lineage.foreign_trace as f where f.event_id = e.id and f.is_passed_on))
        and coalesce(e.collection <> all (array(select unnest(federator.hidden_collections($4::text[])))), true)
        and not exists (select from federator.hidden_items($4::text[]) as h where h.collection_id = e.collection and h.item_id = e.item_id)
    order by e.id = $1 desc, e.seq limit 1
)
select c.*, f.message, f.signature, f.certificate, f.foreign_raw, f.foreign_kind, f.foreign_origin, f.foreign_key, f.before
from chosen as c join lineage.trace_facts(array(select seq from chosen)) as f using (seq);

-- name: put
-- Beside the event that says its hash; nothing comes back for what is there.
insert into lineage.foreign_trace (event_id, origin_kind, is_passed_on, trace_id, origin, event, product_name, collection, item_id, raw, raw_sha256,
    message_sha256, key_sha256, verdict)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14) on conflict do nothing returning event_id;

-- name: put_hashes
-- Where a hash leads to it.
insert into lineage.foreign_trace_hash (digest, event_id) select unnest($2::bytea[]), $1 on conflict do nothing;

-- name: told
-- The event of an upstream's trace that an item has.
select event_id, verdict from lineage.foreign_trace where origin_kind = 'upstream' and collection = $1 and item_id = $2 and raw_sha256 = $3;

-- name: of_item
-- Upstream's traces of an item, oldest first, for those who may see it.
select f.event_id, f.raw, f.verdict, f.created_at, f.is_passed_on
from lineage.foreign_trace as f
where f.collection = $1 and f.item_id = $2
    and f.collection <> all (federator.hidden_collections($3::text[]))
    and not exists (select from federator.hidden_items($3::text[]) as h where h.collection_id = f.collection and h.item_id = f.item_id)
order by f.created_at, f.event_id limit $4;

-- name: item
-- Whether the caller sees an item and may write it, and what it is called by its sources.
select federator.may_write(i.collection, $4::text[]) as may_write,
    array(select h.product from federator.harvested_item as h where h.collection_id = i.collection and h.item_id = i.id) as names
from pgstac.items as i
where i.collection = $1 and i.id = $2 and (i.private is null or federator.may_read(i.private, $3::text[]))
    and i.collection <> all (federator.hidden_collections($3::text[])) limit 1;

-- name: keys_of
-- Hashes of the keys that a caller may sign with.
select key_sha256 from lineage.trace_key where owner = $1 and revoked_at is null;

-- name: trusted_keys
-- Keys that somebody here answers for, and the façade's own certificates.
select key_sha256, null as certificate, false as is_revoked from lineage.trace_key where revoked_at is null
union all
select null, certificate, compromised_since is not null from lineage.signing_key where purpose = 'facade' and certificate is not null;

-- name: add_key
-- Nothing comes back when it is somebody's.
insert into lineage.trace_key (key_sha256, owner, kind, title, created_by) values ($1, $2, $3, $4, $5)
on conflict (key_sha256) do update set revoked_at = null where trace_key.owner = excluded.owner and trace_key.revoked_at is not null
returning owner;

-- name: keys
-- All, oldest first.
select key_sha256, owner, kind, title, created_at, revoked_at from lineage.trace_key order by created_at, key_sha256;

-- name: revoke_key
-- It stays, so that it is known whose it was.
update lineage.trace_key set revoked_at = now() where key_sha256 = $1 and revoked_at is null returning owner;

-- name: is_witnessed
-- Whether a witness has cosigned a checkpoint that the event is in.
select exists (select from lineage.cosignature as c where c.size > (select seq from lineage.event where id = $1)) as is_witnessed;

-- name: foreign_traces
-- For the audit: what is kept word for word, and the columns that repeat it, beside the event. Events that wait for their number count.
select f.event_id, f.raw, f.raw_sha256, f.event, f.product_name, f.trace_id, f.origin, f.collection, f.item_id, f.key_sha256, f.verdict,
    array(select h.digest from lineage.foreign_trace_hash as h where h.event_id = f.event_id) as digests,
    coalesce(e.body, w.body) as body, e.seq
from lineage.foreign_trace as f
left join lineage.event as e on e.id = f.event_id left join lineage.event_outbox as w on w.id = f.event_id
where f.event_id > $1 order by f.event_id limit $2;

-- name: missing_foreign_traces
-- For the audit: events that say the hash of a trace which is not kept any more.
select e.seq from lineage.event as e
where position('"trace_sha256":' in e.body) > 0 and e.body::jsonb ? 'trace_sha256'
    and not exists (select from lineage.foreign_trace as f where f.event_id = e.id)
order by e.seq limit 200;
