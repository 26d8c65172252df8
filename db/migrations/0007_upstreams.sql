-- What all workers of all hosts share of an upstream: its pace, its monthly budget, its circuit breaker.
create table federator.upstream (
    source_id text primary key,
    next_at timestamptz not null default clock_timestamp(),
    failures int not null default 0,
    open_until timestamptz,
    month date,
    month_requests bigint not null default 0
);
comment on table federator.upstream is 'One row per source that was asked: pace, budget and circuit breaker of its upstream.';
comment on column federator.upstream.next_at is 'When the next request may begin.';
comment on column federator.upstream.failures is 'Failed requests in a row; five open the breaker.';
comment on column federator.upstream.open_until is 'Nobody asks before this; then one request may try, and closes the breaker or leaves it open.';

-- Lets one request begin: returns how many seconds to wait first, or why it may not begin for so many seconds.
create function federator.admit(which text, interval_s double precision, per_month bigint)
returns table (wait_s double precision, refusal text, failures int) language plpgsql as $$
declare
    u federator.upstream;
    at timestamptz;
    this_month date;
begin
    insert into federator.upstream (source_id) values (which) on conflict do nothing;
    select * into u from federator.upstream where source_id = which for update;
    at := clock_timestamp();
    this_month := date_trunc('month', at at time zone 'UTC')::date;
    if u.open_until > at then
        return query select extract(epoch from u.open_until - at)::double precision, 'breaker', u.failures;
        return;
    end if;
    if per_month is not null and u.month = this_month and u.month_requests >= per_month then
        return query select
            extract(epoch from (this_month + interval '1 month') at time zone 'UTC' - at)::double precision, 'budget', u.failures;
        return;
    end if;
    update federator.upstream set
        next_at = greatest(u.next_at, at) + make_interval(secs => interval_s),
        month = this_month,
        month_requests = case when u.month = this_month then u.month_requests else 0 end + 1,
        open_until = case when u.open_until is not null then at + interval '60 seconds' end
    where source_id = which;
    return query select greatest(0, extract(epoch from u.next_at - at))::double precision, null::text, u.failures;
end $$;

-- What a run cost and what it did not understand.
alter table federator.harvest_run add column requests bigint not null default 0;
alter table federator.harvest_run add column retries bigint not null default 0;
alter table federator.harvest_run add column bytes bigint not null default 0;
alter table federator.harvest_run add column unread jsonb not null default '{}';
comment on column federator.harvest_run.bytes is 'Of the upstream''s answers, unpacked.';
comment on column federator.harvest_run.unread is 'Upstream fields that nobody read, with how many records had them.';
