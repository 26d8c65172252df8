-- What sources and their traceability services are still to be asked about products that were harvested (ingest/upstream_lineage.py). Rows come
-- with the events of the products, and go with what was answered; a source whose file has no [lineage] has none.
create table federator.lineage_due (
    source_id text not null,
    collection_id text not null,
    item_id text not null,
    product text not null,
    asset text not null default '', -- key of the asset that is a document; empty: traces
    href text not null default '', -- of that asset
    due_at timestamptz not null default now(),
    tries int not null default 0,
    primary key (source_id, collection_id, item_id, asset)
);
create index lineage_due_next on federator.lineage_due (source_id, collection_id, due_at);
comment on table federator.lineage_due is 'Products whose traces and documents are still to be fetched.';
