-- Our own schema and the list of applied files.
create schema if not exists federator;

create table federator.migration (
    number integer primary key,
    name text not null,
    checksum text not null,
    applied_at timestamptz not null default now()
);
