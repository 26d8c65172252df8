-- People, their groups, keys and sessions. Passwords are argon2id; of keys, refresh tokens and the bootstrap token only hashes of 256 random
-- bits are kept, so that a copy of the database logs nobody in by them.

-- Nobody is ever deleted, only disabled: a name stands in the log and owns what it owns.
create table federator.person (
    -- The names that api/access.py gives to programs are nobody's.
    name text primary key check (name ~ '^[a-z0-9][a-z0-9._-]{0,62}$' and name <> all ('{local,token,worker,unattributed,anonymous}')),
    password_hash text, -- null: logs in elsewhere, or by keys alone
    is_admin boolean not null default false,
    scopes text[] not null, -- the most that keys and tokens of this person may do; administrators: everything
    tier text not null default 'general' check (tier ~ '^[a-z][a-z0-9_-]{0,31}$'),
    issuer text check (octet_length(issuer) <= 512), -- the identity provider that knows this person, and as whom
    subject text check (octet_length(subject) <= 512),
    created_at timestamptz not null default now(),
    created_by text not null,
    disabled_at timestamptz,
    disabled_by text,
    check ((issuer is null) = (subject is null)),
    unique (issuer, subject)
);

create table federator.people_group (
    name text primary key check (name ~ '^[a-z0-9][a-z0-9._-]{0,62}$'),
    title text not null default '' check (octet_length(title) <= 1024),
    created_at timestamptz not null default now(),
    created_by text not null
);

create table federator.membership (
    person_name text not null references federator.person,
    group_name text not null references federator.people_group on delete cascade,
    primary key (person_name, group_name)
);
create index membership_group on federator.membership (group_name);

create table federator.api_key (
    id text primary key,
    person_name text not null references federator.person,
    secret_sha256 bytea not null check (length(secret_sha256) = 32),
    last4 text not null, -- of the secret, so that people know their keys apart
    title text not null default '' check (octet_length(title) <= 1024),
    scopes text[] not null,
    created_at timestamptz not null default now(),
    created_by text not null,
    expires_at timestamptz,
    last_used_at timestamptz, -- to the minute
    revoked_at timestamptz,
    revoked_by text
);
create index api_key_person on federator.api_key (person_name);

-- What began with one log-in. Each refresh token is used once; one that comes again ends the whole session.
create table federator.session (
    id uuid primary key,
    person_name text not null references federator.person,
    scopes text[] not null,
    created_at timestamptz not null default now(),
    expires_at timestamptz not null,
    ended_at timestamptz,
    ended_why text
);
create index session_person on federator.session (person_name);
create index session_expiry on federator.session (expires_at);

create table federator.refresh_token (
    sha256 bytea primary key check (length(sha256) = 32),
    session_id uuid not null references federator.session on delete cascade,
    expires_at timestamptz not null,
    used_at timestamptz
);
create index refresh_token_session on federator.refresh_token (session_id);

-- Makes the first administrator; at most one at a time, gone when it is used.
create table federator.bootstrap_token (
    is_only boolean primary key default true check (is_only),
    sha256 bytea not null check (length(sha256) = 32),
    expires_at timestamptz not null
);

-- Log-ins that failed, by a hash of name and address.
create table federator.login_failure (
    who bytea primary key,
    failures integer not null,
    last_at timestamptz not null
);

-- Takes one try at a password: null when it may be made now, else the seconds to wait. Counted before it is made, so that tries at the same
-- moment are no more than tries one after the other. Four are free, then the pause doubles up to a minute; an hour of peace forgets them.
create function federator.take_login(name_and_address bytea) returns float8 language plpgsql as $$
declare
    instant timestamptz := clock_timestamp();
    found federator.login_failure;
    pause interval;
begin
    insert into federator.login_failure values (name_and_address, 0, instant) on conflict do nothing;
    select * into strict found from federator.login_failure where who = name_and_address for update;
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

-- Signs access tokens (Ed25519); the same for all processes on this database.
insert into federator.secret (name, value)
values ('access-token', sha256(convert_to(concat(gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), gen_random_uuid()), 'UTF8')));
