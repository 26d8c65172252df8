-- name: lock
-- How many an owner has is counted and changed by one request at a time.
select pg_advisory_xact_lock(hashtextextended('lineage.watch ' || $1, 0));

-- name: put
-- One a watch, so many an owner; the same again has a new secret, and begins where it stood.
insert into lineage.webhook as h (watch_id, owner, principals, url, secret, next_seq)
select $1, $2, $3, $4, $5, $6
where (select count(*) from lineage.webhook where owner = $2 and watch_id <> $1) < $7
on conflict (watch_id) do update
set principals = excluded.principals, url = excluded.url, secret = excluded.secret, status = 'active', due_at = now(), failures = 0,
    last_error = null
returning url, status, failures, last_error, sent, sent_at, next_seq, created_at;

-- name: one
-- Of a watch of this owner.
select url, status, failures, last_error, sent, sent_at, next_seq, created_at from lineage.webhook where watch_id = $1 and owner = $2;

-- name: drop
-- Nothing is sent any more.
delete from lineage.webhook where watch_id = $1 and owner = $2 returning watch_id;

-- name: claim
-- Those for which there may be something new, lent to one worker for some minutes: what it does not finish another sends again.
with due as (
    select h.watch_id from lineage.webhook as h
    where h.status = 'active' and h.due_at <= now() and h.next_seq < (select p.next_seq from lineage.projection as p where p.name = 'graph')
    order by h.due_at limit $1 for update skip locked
)
update lineage.webhook as h set due_at = now() + interval '5 minutes'
from due join lineage.watch as w on w.id = due.watch_id
where h.watch_id = due.watch_id
returning h.watch_id, h.owner, h.url, h.secret, h.next_seq, h.failures, w.kind, w.entity, cardinality(h.principals) > 0 as is_somebody,
    federator.present_principals(h.principals) as principals;

-- name: has_news
-- Whether anything happened at all that alerts tell of.
select exists (
    select from lineage.event where seq >= $1 and seq < $2 and kind in ('WITHDRAW', 'OBSOLETE', 'DELETE', 'REPLACE', 'RESTORE')) as has_news;

-- name: sent
-- One alert was taken.
update lineage.webhook set next_seq = greatest(next_seq, $2), sent = sent + 1, sent_at = now(), failures = 0, last_error = null
where watch_id = $1;

-- name: rest
-- Nothing more to send up to this number; the next look comes in so many seconds.
update lineage.webhook set next_seq = greatest(next_seq, $2), due_at = now() + make_interval(secs => $3) where watch_id = $1;

-- name: failed
-- It was not taken; after so many times nothing is sent any more until its owner says so.
update lineage.webhook
set failures = failures + 1, last_error = $2, due_at = now() + make_interval(secs => $3),
    status = case when $4 or failures + 1 >= $5 then 'disabled' else status end
where watch_id = $1;
