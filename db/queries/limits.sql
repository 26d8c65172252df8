-- name: take
-- Tokens of several quotas at once.
select quota, granted, taken from federator.take($1, $2::text[], $3::bigint[], $4::bigint[], $5::bigint[]);

-- name: used
-- Of one caller, leases that are not spent yet included.
select quota, window_start, taken from federator.usage where subject = $1;

-- name: count
-- Of several callers at once; what they have used by now.
select subject, taken from federator.count_usage($1::text[], $2, $3, $4::bigint[]);

-- name: forget
-- Callers that did not come since.
delete from federator.usage where window_start < $1;

-- name: take_place
-- For one connection.
select federator.take_place($1, $2, $3, make_interval(secs => $4)) as is_taken;

-- name: keep_places
-- Those of this process.
update federator.download set alive_until = clock_timestamp() + make_interval(secs => $2) where id = any ($1::uuid[]);

-- name: free_places
-- When their connections have ended.
delete from federator.download where id = any ($1::uuid[]);

-- name: places
-- How many connections of one caller fetch now.
select count(*) as places from federator.download where subject = $1 and alive_until >= clock_timestamp();
