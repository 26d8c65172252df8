-- Properties that users sort and filter by: without an entry here pgstac sorts numbers as text.
select pgstac.upsert_queryable(name => entry.name, definition => entry.definition::jsonb, property_wrapper => entry.wrapper)
from (values
    ('eo:cloud_cover', '{"title": "Cloud cover", "type": "number", "minimum": 0, "maximum": 100}', 'to_float'),
    ('eo:snow_cover', '{"title": "Snow cover", "type": "number", "minimum": 0, "maximum": 100}', 'to_float'),
    ('gsd', '{"title": "Ground sample distance in metres", "type": "number", "minimum": 0}', 'to_float'),
    ('sat:absolute_orbit', '{"title": "Absolute orbit", "type": "integer", "minimum": 1}', 'to_int'),
    ('sat:relative_orbit', '{"title": "Relative orbit", "type": "integer", "minimum": 1}', 'to_int'),
    ('sat:orbit_state', '{"title": "Orbit state", "type": "string", "enum": ["ascending", "descending"]}', 'to_text'),
    ('view:sun_elevation', '{"title": "Sun elevation in degrees", "type": "number", "minimum": -90, "maximum": 90}', 'to_float'),
    ('grid:code', '{"title": "Grid code", "type": "string"}', 'to_text'),
    ('platform', '{"title": "Platform", "type": "string"}', 'to_text'),
    ('constellation', '{"title": "Constellation", "type": "string"}', 'to_text'),
    ('product:type', '{"title": "Product type", "type": "string"}', 'to_text'),
    ('processing:version', '{"title": "Processing version or baseline", "type": "string"}', 'to_text'),
    ('sar:instrument_mode', '{"title": "Instrument mode", "type": "string"}', 'to_text'),
    ('created', '{"title": "Created", "type": "string", "format": "date-time"}', 'to_text'),
    ('updated', '{"title": "Updated", "type": "string", "format": "date-time"}', 'to_text'),
    ('published', '{"title": "Published by the source", "type": "string", "format": "date-time"}', 'to_text')
) as entry (name, definition, wrapper)
where not exists (select from pgstac.queryables as q where q.name = entry.name);
