-- Mosaics: items of a collection or of a registered search that lie in an area, in the order in which their pixels are laid over each other.

-- Searches that callers have registered for tiles. pgstac's own table of searches names each by a hash of what is asked, so whoever guesses a
-- query learns whether somebody has asked it; these are named at random.
create table federator.tile_search (
    id text primary key check (id ~ '^[0-9a-f]{32}$'),
    owner text, -- principal that may see and remove it; null: whoever knows the id may see it
    is_public boolean not null,
    search jsonb not null, -- as it was asked; it is planned whenever it is used
    metadata jsonb not null,
    digest bytea not null, -- of search and metadata: the same owner gets the same id for the same
    created_at timestamptz not null default now(),
    used_at timestamptz not null default now(),
    use_count bigint not null default 0, -- hours in which it was used
    check (owner is not null or is_public)
);
comment on table federator.tile_search is 'Searches that were registered for tiles; each belongs to who registered it.';
create unique index tile_search_same on federator.tile_search (coalesce(owner, ''), digest);
create index tile_search_oldest on federator.tile_search (coalesce(owner, ''), used_at);

-- Registers a search, or finds the owner's same one; of an owner's searches the `most` that were used last are kept.
create function federator.register_tile_search(
    new_id text, new_owner text, new_is_public boolean, new_search jsonb, new_metadata jsonb, new_digest bytea, most int)
returns text language plpgsql as $$
declare
    found_id text;
begin
    insert into federator.tile_search as t (id, owner, is_public, search, metadata, digest)
    values (new_id, new_owner, new_is_public, new_search, new_metadata, new_digest)
    on conflict (coalesce(owner, ''), digest) do update set used_at = now()
    returning t.id into found_id;
    delete from federator.tile_search where id in (
        select id from federator.tile_search where coalesce(owner, '') = coalesce(new_owner, '') and id <> found_id
        order by used_at desc offset most - 1
    );
    return found_id;
end $$;

-- Items of a search whose footprints touch an area (null: anywhere), in the search's order, as documents; `is_public`: everybody may see it.
-- Pages are asked for one after the other while a picture has holes, so most are of the first page.
create function federator.mosaic_page(search jsonb, principals text[], area public.geometry, page_limit int, page_offset int)
returns table (item jsonb, is_public boolean) language plpgsql stable as $$
declare
    keys jsonb := case when coalesce(search -> 'sortby', '[]') <> '[]' then federator.sort_keys(search) else federator.newest_first() end;
begin
    return query execute format(
        'select pgstac.content_hydrate(found.i), (found.i).private is null and (found.i).collection <> all (%L) from (',
        federator.hidden_collections('{}'))
        || 'select i from pgstac.items as i where (' || federator.condition(search - 'sortby') || ') and ' || federator.visible(principals)
        || case when area is not null then format(' and public.st_intersects(geometry, %L::public.geometry)', area) else '' end
        || ' order by ' || federator.order_by(keys) || format(' limit %s offset %s', page_limit, page_offset) || ') as found';
end $$;
