-- A log-in at the same moment as one that succeeded was an error: the row was looked for after it had gone.

-- Takes one try at a password: null when it may be made now, else the seconds to wait. Counted before it is made, so that tries at the same
-- moment are no more than tries one after the other. Four are free, then the pause doubles up to a minute; an hour of peace forgets them.
create or replace function federator.take_login(name_and_address bytea) returns float8 language plpgsql as $$
declare
    instant timestamptz := clock_timestamp();
    found federator.login_failure;
    pause interval;
begin
    insert into federator.login_failure as f values (name_and_address, 0, instant)
    on conflict (who) do update set failures = f.failures returning f.* into found;
    instant := clock_timestamp();
    if found.last_at < instant - interval '1 hour' then
        found.failures := 0;
    end if;
    if found.failures >= 4 then
        pause := make_interval(secs => least(60, 2 ^ least(found.failures - 4, 10)));
        if found.last_at + pause > instant then
            return extract(epoch from found.last_at + pause - instant);
        end if;
    end if;
    update federator.login_failure set failures = found.failures + 1, last_at = instant where who = name_and_address;
    return null;
end $$;
