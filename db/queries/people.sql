-- name: is_anybody
-- As soon as there is a person, a program on this machine is nobody in particular.
select exists (select from federator.person) as is_anybody;

-- name: by_key
-- Who holds an API key; whether its secret is right is looked at by the caller, in constant time.
select k.secret_sha256, k.scopes, k.expires_at, k.revoked_at is not null or p.disabled_at is not null as is_over,
    p.name, p.is_admin, p.scopes as allowed, p.tier,
    array(select m.group_name from federator.membership as m where m.person_name = p.name order by m.group_name) as groups
from federator.api_key as k join federator.person as p on p.name = k.person_name where k.id = $1;

-- name: by_session
-- Whose session an access token belongs to, as things are now.
select s.scopes, s.ended_at is not null or p.disabled_at is not null as is_over, p.name, p.is_admin, p.scopes as allowed, p.tier,
    array(select m.group_name from federator.membership as m where m.person_name = p.name order by m.group_name) as groups
from federator.session as s join federator.person as p on p.name = s.person_name where s.id = $1;

-- name: by_subject
-- Whom an identity provider means.
select p.disabled_at is not null as is_over, p.name, p.is_admin, p.scopes as allowed, p.tier,
    array(select m.group_name from federator.membership as m where m.person_name = p.name order by m.group_name) as groups
from federator.person as p where p.issuer = $1 and p.subject = $2;

-- name: add_subject
-- A person whom an identity provider has told of for the first time. Nothing when the name or the person is there.
insert into federator.person (name, scopes, issuer, subject, created_by) values ($3, $4, $1, $2, 'oidc') on conflict do nothing;

-- name: note_use
-- Keys that were used, and when; at most once a minute for each, however many processes see it.
update federator.api_key as k set last_used_at = u.at
from unnest($1::text[], $2::timestamptz[]) as u (id, at)
where k.id = u.id and (k.last_used_at is null or k.last_used_at < u.at - interval '1 minute');

-- name: sweep
-- What is of no use any more.
with sessions as (delete from federator.session where expires_at < now() - interval '1 day')
delete from federator.login_failure where last_at < now() - interval '1 hour';

-- name: be_alone
-- Changes of people one after the other, so that the last administrator stays; to the transaction's end.
select pg_advisory_xact_lock(hashtextextended('federator.people', 0));

-- name: has_admin
-- Somebody who can make people.
select exists (select from federator.person where is_admin and disabled_at is null) as has_admin;

-- name: offer_bootstrap
-- In place of the one before.
insert into federator.bootstrap_token (sha256, expires_at) values ($1, now() + make_interval(secs => $2::float8))
on conflict (is_only) do update set sha256 = excluded.sha256, expires_at = excluded.expires_at;

-- name: is_bootstrap
-- A look at it.
select true as is_good from federator.bootstrap_token where sha256 = $1 and expires_at > now();

-- name: use_bootstrap
-- Once.
delete from federator.bootstrap_token where sha256 = $1 returning expires_at > now() as is_good;

-- name: drop_bootstrap
-- There is an administrator, it is of no use any more.
delete from federator.bootstrap_token;

-- name: add_person
-- Nothing when the name is taken.
insert into federator.person (name, password_hash, is_admin, scopes, tier, created_by) values ($1, $2, $3, $4, $5, $6)
on conflict do nothing returning name;

-- name: person
-- One person as administrators see it.
select p.*, array(select m.group_name from federator.membership as m where m.person_name = p.name order by m.group_name) as groups
from federator.person as p where p.name = $1;

-- name: people
-- In the order of their names, after one.
select p.*, array(select m.group_name from federator.membership as m where m.person_name = p.name order by m.group_name) as groups
from federator.person as p where p.name > $1 order by p.name limit $2;

-- name: set_person
-- Null leaves a member as it is.
update federator.person set
    is_admin = coalesce($2, is_admin), scopes = coalesce($3, scopes), tier = coalesce($4, tier),
    disabled_at = case when $5::boolean then coalesce(disabled_at, now()) when not $5::boolean then null else disabled_at end,
    disabled_by = case when $5::boolean then coalesce(disabled_by, $6) when not $5::boolean then null else disabled_by end
where name = $1;

-- name: set_password
-- Of people whom no identity provider knows.
update federator.person set password_hash = $2 where name = $1 and issuer is null returning name;

-- name: password_of
-- For log-in.
select password_hash, scopes, is_admin from federator.person where name = $1 and disabled_at is null;

-- name: leave_groups
-- Before others are joined.
delete from federator.membership where person_name = $1;

-- name: join_groups
-- Groups that are not there are none.
insert into federator.membership (person_name, group_name) select $1, name from federator.people_group where name = any($2::text[]);

-- name: known_groups
-- Which of these are there.
select name from federator.people_group where name = any($1::text[]);

-- name: groups
-- With who is in them.
select g.name, g.title, g.created_at,
    array(select m.person_name from federator.membership as m where m.group_name = g.name order by m.person_name) as members
from federator.people_group as g where $1::text is null or g.name = $1 order by g.name limit 10000;

-- name: add_group
-- Nothing when the name is taken.
insert into federator.people_group (name, title, created_by) values ($1, $2, $3) on conflict do nothing returning name;

-- name: set_title
-- Of a group.
update federator.people_group set title = $2 where name = $1;

-- name: empty_group
-- Before others join.
delete from federator.membership where group_name = $1;

-- name: fill_group
-- People who are not there are not in it.
insert into federator.membership (group_name, person_name) select $1, name from federator.person where name = any($2::text[]);

-- name: known_people
-- Which of these are there.
select name from federator.person where name = any($1::text[]);

-- name: delete_group
-- With its memberships.
delete from federator.people_group where name = $1 returning name;

-- name: add_key
-- Its secret is shown once and kept nowhere.
insert into federator.api_key (id, person_name, secret_sha256, last4, title, scopes, expires_at, created_by)
values ($1, $2, $3, $4, $5, $6, $7, $8) returning *;

-- name: lock_person
-- One person's keys are counted one after the other; to the transaction's end.
select from federator.person where name = $1 for no key update;

-- name: count_keys
-- That still open something.
select count(*) as keys from federator.api_key where person_name = $1 and revoked_at is null and (expires_at is null or expires_at > now());

-- name: keys
-- Of one person (null: of all), newest first.
select * from federator.api_key where $1::text is null or person_name = $1 order by created_at desc, id limit 1000;

-- name: revoke_key
-- Whose ($2 null: anybody's). Twice is no error.
update federator.api_key set revoked_at = coalesce(revoked_at, now()), revoked_by = coalesce(revoked_by, $3)
where id = $1 and ($2::text is null or person_name = $2) returning person_name;

-- name: take_login
-- Seconds to wait before a password may be tried; null: it may be now.
select federator.take_login($1) as wait_s;

-- name: forgive_login
-- The password was right.
delete from federator.login_failure where who = $1;

-- name: begin_session
-- By a log-in.
insert into federator.session (id, person_name, scopes, expires_at) values ($1, $2, $3, now() + make_interval(secs => $4::float8));

-- name: add_refresh
-- The session lives as long as its newest refresh token, and at most so many seconds ($4) from its log-in on.
with session as (
    update federator.session set expires_at = least(now() + make_interval(secs => $3::float8), created_at + make_interval(secs => $4::float8))
    where id = $2 returning id, expires_at
)
insert into federator.refresh_token (sha256, session_id, expires_at) select $1, id, expires_at from session;

-- name: use_refresh
-- Once.
update federator.refresh_token set used_at = now() where sha256 = $1 and used_at is null and expires_at > now() returning session_id;

-- name: refresh_session
-- Whose refresh token this is or was.
select session_id, used_at is not null as is_used from federator.refresh_token where sha256 = $1;

-- name: end_session
-- With all tokens of it.
update federator.session set ended_at = now(), ended_why = $2 where id = $1 and ended_at is null;

-- name: end_sessions
-- All of a person.
update federator.session set ended_at = now(), ended_why = $2 where person_name = $1 and ended_at is null;
