-- What users say of their raster beyond title and time: text, range of time, licence, keywords, bands, parents, coordinate system.
-- Shape and limits: ingest/uploads/description.py.
alter table federator.upload
    add column description jsonb not null default '{}' check (jsonb_typeof(description) = 'object' and octet_length(description::text) <= 65536);
comment on column federator.upload.description is 'What the user says of the raster, checked: ingest/uploads/description.py.';

-- The time may stand in the file itself.
alter table federator.upload alter column datetime drop not null;
