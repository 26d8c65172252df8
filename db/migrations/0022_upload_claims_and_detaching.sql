-- Uploads that promised no length: the bytes that a request is sending now, so that two at once do not slip under a quota together.
alter table federator.upload add column claimed_bytes bigint check (claimed_bytes > 0);
comment on column federator.upload.claimed_bytes is 'Announced by the request that sends the file now; counted with its owner''s bytes until the request ends.';
create index upload_claims on federator.upload (updated_at) where claimed_bytes is not null;

-- What a signer's principals are worth now (api/signed.py). Those of a person who is disabled or gone are worth nothing, a group that he has
-- left neither; nor is anything that was signed with a key or in a session that has ended (`key:ID`, `session:ID`). What only an identity
-- provider knew of him when he signed (`given:group:NAME`) is believed for the hour that a signature lives. Principals of no person (the
-- operator, nobody) stay.
create or replace function federator.present_principals(principals text[]) returns text[] language plpgsql stable as $$
declare
    signer text := (select substr(p, 6) from unnest(principals) as p where p like 'user:%' limit 1);
begin
    if signer is null then
        return principals;
    end if;
    if exists (
        select from unnest(principals) as p where p like 'key:%' and not exists (
            select from federator.api_key as k
            where k.id = substr(p, 5) and k.revoked_at is null and (k.expires_at is null or k.expires_at > now()))
    ) or exists (
        select from unnest(principals) as p where p like 'session:%' and not exists (
            select from federator.session as s where s.id::text = substr(p, 9) and s.ended_at is null)
    ) then
        return '{}';
    end if;
    return array(
        select case when p like 'given:%' then substr(p, 7) else p end
        from unnest(principals) as p join federator.person as o on o.name = signer and o.disabled_at is null
        where p = 'user:' || signer or (p = 'role:admin' and o.is_admin) or p like 'given:%'
            or exists (select from federator.membership as m where m.person_name = signer and p = 'group:' || m.group_name)
    );
end $$;

-- Uploads whose item was deleted by those who edit the catalogue: the files stay, and are served no more.
alter table federator.upload drop constraint upload_state_check, add constraint upload_state_check check (state in (
    'created', 'uploading', 'received', 'scanning', 'converting', 'registering', 'ready', 'detached', 'rejected', 'failed', 'deleting', 'deleted'
));
drop index federator.upload_asset;
create unique index upload_asset on federator.upload (collection_id, item_id, asset_key)
    where item_id is not null and state not in ('detached', 'rejected', 'failed', 'deleting', 'deleted');
drop index federator.upload_to_free;
create index upload_to_free on federator.upload (updated_at)
    where freed_at is null and state in ('ready', 'detached', 'rejected', 'deleting', 'deleted');
with found as (
    update federator.upload as u set state = 'detached', updated_at = now()
    where state = 'ready' and not exists (select from pgstac.items as i where i.collection = u.collection_id and i.id = u.item_id)
    returning u.id
)
insert into lineage.event_outbox (id, kind, name, source, actor_id, claimed_at, body)
select lineage.uuid7(), 'STATE', 'upload/' || id, 'own', 'worker', clock_timestamp(),
    format('{"from":"ready","source":"own","to":"detached","upload":"%s"}', id)
from found;
