-- Several uploads make one item, each an asset of it; and an upload may be a newer version of an item.
alter table federator.upload
    add column target_item text, -- the item that it becomes, or becomes part of
    add column role text not null default 'new' check (role in ('new', 'asset', 'version')),
    add column asset_key text not null default 'data' check (asset_key ~ '^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$'),
    add column replaces_asset boolean not null default false, -- an asset of that key gives way
    add column version integer not null default 1 check (version > 0),
    add column is_superseded boolean not null default false, -- its item is an older version
    add column shown jsonb; -- its footprint and how a map shows it: what the item needs when its parts change
update federator.upload set target_item = item_id where item_id is not null;

-- One upload an asset, of those that are on their way or there.
drop index federator.upload_item;
create index upload_item on federator.upload (collection_id, item_id);
create unique index upload_asset on federator.upload (collection_id, item_id, asset_key)
    where item_id is not null and state not in ('rejected', 'failed', 'deleting', 'deleted');
create index upload_target on federator.upload (collection_id, target_item);
create index upload_same on federator.upload (owner, sha256) where state = 'ready';
comment on column federator.upload.target_item is 'The item that the upload becomes or becomes part of; known from the beginning, unlike item_id.';
