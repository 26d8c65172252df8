-- Holdings are gathered by what was observed: an acquisition's versions and copies are settled together.
alter table federator.holding add column acquisition text;
update federator.holding set acquisition = case
    when product ~ '^S1' then regexp_replace(product, '(_[0-9A-F]{4}(_COG)?)?\.SAFE$', '')
    when product ~ '^S2' then regexp_replace(product, '^(S2._MSI..._[0-9T]{15})_N[0-9]{4}(_R[0-9]{3}_T.{5})_.*$', '\1\2')
    else product end;
alter table federator.holding alter column acquisition set not null;
alter table federator.holding add column withdrawn_at timestamptz;
alter table federator.holding add column withdrawn_because text;
alter table federator.holding add column sensed timestamptz;
update federator.holding as h set sensed = i.datetime from federator.harvested_item as i
where i.collection_id = h.collection_id and i.item_id = h.item_id;
comment on column federator.holding.sensed is 'When the source says that the observation began.';
create index holding_published on federator.holding (source_id, collection_id, published) where withdrawn_at is null;
create index holding_sensed on federator.holding (source_id, collection_id, sensed) where withdrawn_at is null;
create index holding_acquisition on federator.holding (collection_id, acquisition);
comment on column federator.holding.acquisition is 'What was observed, by the product''s name; all versions and copies of it share this.';
comment on column federator.holding.withdrawn_at is 'When the source took its copy back; null while it offers it.';

alter table federator.harvested_item add column acquisition text;
update federator.harvested_item as i set acquisition = (
    select h.acquisition from federator.holding as h where h.collection_id = i.collection_id and h.item_id = i.item_id limit 1
);
update federator.harvested_item set acquisition = item_id where acquisition is null;
alter table federator.harvested_item alter column acquisition set not null;
alter table federator.harvested_item add column content_sha256 bytea check (octet_length(content_sha256) = 32);
alter table federator.harvested_item add column successor_id text;
alter table federator.harvested_item add column withdrawn_at timestamptz;
alter table federator.harvested_item add column withdrawn_because text;
create index harvested_item_acquisition on federator.harvested_item (collection_id, acquisition);
comment on column federator.harvested_item.content_sha256 is 'Hash of the whole item as it was written, links too; null when an older version of us wrote it.';
comment on column federator.harvested_item.successor_id is 'The item that follows this one: a newer version, or the name under which a withdrawn one goes on.';
comment on column federator.harvested_item.withdrawn_at is 'When the item left the catalogue; its id keeps answering as gone.';

create table federator.census (
    id bigint generated always as identity primary key,
    source_id text not null,
    collection_id text not null,
    since timestamptz not null,
    until timestamptz not null,
    bbox double precision[],
    as_of timestamptz not null default now(),
    expected bigint,
    held bigint not null,
    missing bigint not null,
    extra bigint not null,
    quarantined bigint not null,
    healed bigint not null default 0,
    check (since < until)
);
comment on table federator.census is 'Coverage: what a source said it had for a period and an area, beside what was held, as of a time. At most one month a row.';
comment on column federator.census.expected is 'What the source has in since <= t < until, t being its publication or, where it tells none, the sensing time.';
create index census_latest on federator.census (source_id, collection_id, since, as_of desc);

alter table federator.harvest_run add column withdrawn bigint not null default 0;
comment on column federator.harvest_run.withdrawn is 'Records that the source''s list of deletions named and that were held.';
