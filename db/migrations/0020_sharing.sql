-- Sharing: who may write into a collection, what an upload is to be, collections that are gone and stay hidden. ingest/sharing.py has the words.

alter table federator.collection_access add column writers text[] not null default '{}';
comment on column federator.collection_access.writers is 'Principals that may write items, and so may read. The owner always may.';

-- Collections that not everybody could see, after they were deleted: the log goes on naming them, to those who could.
create table federator.gone_collection (
    collection_id text primary key,
    owner text,
    readers text[] not null
);
comment on table federator.gone_collection is 'Deleted collections that were not public. Their ids are kept for those who could see them.';

create function federator.note_gone_collection() returns trigger language plpgsql security definer set search_path = pg_catalog as $$
begin
    if not exists (select from pgstac.collections where id = old.collection_id) then
        insert into federator.gone_collection (collection_id, owner, readers) values (old.collection_id, old.owner, old.readers || old.writers)
        on conflict (collection_id) do update set owner = excluded.owner, readers = excluded.readers;
    end if;
    return null;
end $$;
create trigger note_gone_collection after delete on federator.collection_access
    for each row when (old.visibility <> 'public') execute function federator.note_gone_collection();

-- As before (0008_search.sql); who may write may read, and what is gone stays hidden.
create or replace function federator.hidden_collections(principals text[]) returns text[] language plpgsql stable as $$
begin
    if 'role:admin' = any (principals) then
        return '{}';
    end if;
    return array(
        select collection_id from federator.collection_access
        where visibility <> 'public' and not coalesce(owner = any (principals), false) and not (readers || writers) && principals
        union all
        select collection_id from federator.gone_collection as g
        where not coalesce(owner = any (principals), false) and not readers && principals
            and not exists (select from pgstac.collections as c where c.id = g.collection_id)
    );
end $$;

-- Whether a caller may change a collection itself and who sees it: its owner and administrators.
create function federator.may_share(which text, principals text[]) returns boolean language plpgsql stable as $$
begin
    return 'role:admin' = any (principals)
        or exists (select from federator.collection_access where collection_id = which and owner = any (principals));
end $$;

-- Whether a caller may write items into a collection. Asked after whether he sees it.
create function federator.may_write(which text, principals text[]) returns boolean language plpgsql stable as $$
begin
    return federator.may_share(which, principals)
        or exists (select from federator.collection_access where collection_id = which and writers && principals);
end $$;

-- What an upload's item is to be; null: as its collection.
alter table federator.upload
    add column visibility text check (visibility in ('private', 'shared', 'public')),
    add column readers text[] not null default '{}' check (cardinality(readers) = 0 or visibility = 'shared');

-- Those of these uploads whose files a caller may read: his own, and those whose item he may see.
create function federator.readable_uploads(ids uuid[], principals text[]) returns setof uuid language plpgsql stable as $$
begin
    return query
    select u.id from federator.upload as u
    where u.id = any (ids) and (
        'role:admin' = any (principals) or 'user:' || u.owner = any (principals)
        or exists (select from federator.item(u.collection_id, u.item_id, principals)));
end $$;

-- Whether a caller may see an event of no collection: those of an upload are for who may read the upload.
create function federator.may_see_event(event_kind text, event_name text, principals text[]) returns boolean language plpgsql stable as $$
begin
    return event_kind <> 'STATE' or 'role:admin' = any (principals)
        or exists (select from federator.readable_uploads(array[substring(event_name from '^upload/([0-9a-f-]{36})$')::uuid], principals));
end $$;

-- Who may see an item from now on (ingest/sharing.py); null: who sees its collection. Every process forgets what it has counted.
create function federator.set_private(in_collection text, which text, value jsonb) returns void language plpgsql as $$
declare
    before jsonb;
begin
    select private into before from pgstac.items where collection = in_collection and id = which;
    update pgstac.items set private = value where collection = in_collection and id = which;
    if value is null then
        -- To be packed again, and to widen the summary of its collection.
        insert into federator.unpacked_item (collection, id) values (in_collection, which) on conflict do nothing;
    elsif before is null then
        -- The summary knows it: until it is made anew without it the collection is described by its own document.
        update federator.collection_summary set summary = null, rebuilding = null, rebuilt_at = null where collection_id = in_collection;
    end if;
    perform pg_notify('federator_catalogue', '');
end $$;

grant select on federator.gone_collection to public;
