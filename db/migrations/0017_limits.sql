-- Counters of what callers use, shared by all processes, places of downloads, and the key of signed tile URLs.

insert into federator.secret (name, value)
values ('tile-url', decode(replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''), 'hex'))
on conflict (name) do nothing;

-- What a signer's principals are worth now: those of a person who is disabled or gone are worth nothing, a group that he has left neither.
-- Principals of no person (the operator, nobody) stay. Where no persons are kept (the table is not there) everything stays.
create function federator.present_principals(principals text[]) returns text[] language plpgsql stable as $$
declare
    signer text := (select substr(p, 6) from unnest(principals) as p where p like 'user:%' limit 1);
begin
    if signer is null or to_regclass('federator.person') is null then
        return principals;
    end if;
    return array(
        select p from unnest(principals) as p join federator.person as o on o.name = signer and o.disabled_at is null
        where p = 'user:' || signer or (p = 'role:admin' and o.is_admin)
            or exists (select from federator.membership as m where m.person_name = signer and p = 'group:' || m.group_name)
    );
end $$;

-- One row a subject and quota, of its newest window only: it does not grow with time.
create table federator.usage (
    subject text not null check (octet_length(subject) <= 300),
    quota text not null check (octet_length(quota) <= 60),
    window_start bigint not null, -- seconds since 1970, UTC
    taken bigint not null check (taken >= 0), -- leases that are not spent yet included
    primary key (subject, quota)
) with (fillfactor = 50);
comment on table federator.usage is 'What callers have used of their quotas. A subject is a caller, or a keyed hash of an address.';

-- Takes up to `wanted` of each quota and says how much that was; less than zero gives back. Nothing beyond the limit is ever given, and
-- the nearer the limit the less at once, so that little is left unused with others.
create function federator.take(
    in_subject text, in_quotas text[], in_windows bigint[], in_limits bigint[], in_wanted bigint[]
) returns table (quota text, granted bigint, taken bigint) language plpgsql as $$
declare
    held federator.usage;
begin
    perform set_config('synchronous_commit', 'off', true); -- a crash of the server forgets less than a second
    for n in 1 .. cardinality(in_quotas) loop
        insert into federator.usage as u values (in_subject, in_quotas[n], in_windows[n], 0)
        on conflict on constraint usage_pkey do update set quota = u.quota -- locks the row that is there
        returning u.* into held;
        if held.window_start < in_windows[n] then
            held.window_start := in_windows[n];
            held.taken := 0;
        end if;
        quota := in_quotas[n];
        if in_wanted[n] >= 0 then
            granted := greatest(0, least(in_wanted[n], in_limits[n] - held.taken, greatest(1, (in_limits[n] - held.taken) / 10)));
        elsif held.window_start = in_windows[n] then
            granted := -least(-in_wanted[n], held.taken);
        else
            granted := 0;
        end if;
        taken := held.taken + granted;
        update federator.usage as u set window_start = held.window_start, taken = held.taken + granted
        where u.subject = in_subject and u.quota = in_quotas[n];
        return next;
    end loop;
end $$;

-- Counts what is slowed and not refused.
create function federator.count_usage(in_subjects text[], in_quota text, in_window bigint, in_amounts bigint[])
returns table (subject text, taken bigint) language plpgsql as $$
begin
    perform set_config('synchronous_commit', 'off', true);
    return query
    insert into federator.usage as u
    select a.subject, in_quota, in_window, a.amount from unnest(in_subjects, in_amounts) as a (subject, amount) order by a.subject
    on conflict on constraint usage_pkey do update set
        taken = case when u.window_start < excluded.window_start then excluded.taken else u.taken + excluded.taken end,
        window_start = greatest(u.window_start, excluded.window_start)
    returning u.subject, u.taken;
end $$;

-- Connections that fetch a file. Unlogged: after a crash of the server there are none.
create unlogged table federator.download (
    id uuid primary key,
    subject text not null,
    alive_until timestamptz not null
);
create index download_subject on federator.download (subject);

-- A place for one connection, if there is one free; a place that nobody renews is free again.
create function federator.take_place(in_id uuid, in_subject text, places integer, life interval) returns boolean language plpgsql as $$
begin
    perform set_config('synchronous_commit', 'off', true);
    perform pg_advisory_xact_lock(hashtextextended('federator.download ' || in_subject, 0));
    delete from federator.download where subject = in_subject and alive_until < clock_timestamp();
    if (select count(*) from federator.download where subject = in_subject) >= places then
        return false;
    end if;
    insert into federator.download values (in_id, in_subject, clock_timestamp() + life);
    return true;
end $$;
