-- name: lock
-- Held by the session: one runner at a time, the others wait and then find nothing to do.
select pg_advisory_lock(hashtext($1));

-- name: relation_exists
-- Null for an unknown schema or table, so no error on an empty database.
select to_regclass($1) is not null;

-- name: pgstac_version
-- pgstac's own list of what was applied.
select version from pgstac.migrations order by datetime desc, version desc limit 1;

-- name: applied
-- Our files that were applied.
select number, name, checksum from federator.migration order by number;

-- name: component
-- Version of a part that brings its own schema.
select version from federator.component where name = $1;

-- name: create_schema
-- Before our first file, because the queue's version is noted in it.
create schema if not exists federator;

-- name: create_component
-- See create_schema.
create table if not exists federator.component (
    name text primary key,
    version text not null,
    applied_at timestamptz not null default now()
);

-- name: use_public
-- The queue's files name no schema; a user called federator would otherwise get them into the schema of that name.
set local search_path = public;

-- name: set_component
-- After the part's schema, in the same transaction.
insert into federator.component (name, version) values ($1, $2)
on conflict (name) do update set version = excluded.version, applied_at = now();

-- name: record
-- After the file, in the same transaction.
insert into federator.migration (number, name, checksum) values ($1, $2, $3);

-- name: grant_service
-- As the owner of the tables (0026_log.sql).
select federator.grant_service($1);
