-- name: admit
-- One request to an upstream; waits for other workers' requests no longer than it takes to count them.
select wait_s, refusal, failures from federator.admit($1, $2, $3);

-- name: note_success
-- The upstream answers: the breaker closes.
update federator.upstream set failures = 0, open_until = null where source_id = $1 and (failures > 0 or open_until is not null);

-- name: note_failure
-- Five failures in a row, of whatever worker, open the breaker for a minute.
update federator.upstream
set failures = failures + 1, open_until = case when failures + 1 >= 5 then clock_timestamp() + interval '60 seconds' end
where source_id = $1;

-- name: hold
-- The upstream asked for patience: nobody asks before.
update federator.upstream set next_at = greatest(next_at, clock_timestamp() + make_interval(secs => $2)) where source_id = $1;
