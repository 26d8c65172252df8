-- Whether the bytes that one event names took the place of those that an older event of the same item names. An item may be made of several
-- uploads: then `replaced` names the one whose place was taken, and a new version (`predecessor`) takes the place of all.
create function lineage.replaces(newer jsonb, older jsonb) returns boolean language plpgsql immutable as $$
begin
    return not newer ? 'upload' or newer ? 'predecessor' or not older ? 'upload'
        or coalesce(newer ->> 'replaced', newer ->> 'upload') = older ->> 'upload';
end $$;

-- As before (0026_traces.sql), but of an item of several files a REPLACE ends only the one whose place was taken. What a trace needs beside the
-- event: the façade's signature, a foreign trace, and the last event before that named the product's hashes, for events that end something
-- and do not say them again. An item that goes on under another id says what it was called (`formerly`).
create or replace function lineage.trace_facts(numbers bigint[])
returns table (seq bigint, message text, signature text, certificate text, foreign_raw text, foreign_kind text, foreign_origin text,
    foreign_key bytea, before text)
language plpgsql stable as $$
begin
    return query
    select e.seq, t.message, t.signature, t.certificate, f.raw, f.origin_kind, f.origin, f.key_sha256, p.body
    from lineage.event as e
    left join lineage.trace_signature as t on t.event_id = e.id
    left join lineage.foreign_trace as f on f.event_id = e.id and f.is_passed_on
    left join lateral (
        select b.body from lineage.event as b
        where e.kind in ('DELETE', 'OBSOLETE', 'WITHDRAW', 'REPLACE', 'RESTORE')
            and b.collection = e.collection and b.item_id = coalesce(e.body::jsonb ->> 'formerly', e.item_id) and b.seq < e.seq
            and b.kind in ('CREATE', 'REPLACE', 'REGISTER', 'COPY', 'UPDATE') and b.body::jsonb ? 'hashes'
            and case when e.kind = 'REPLACE' then lineage.replaces(e.body::jsonb, b.body::jsonb) else b.kind <> 'UPDATE' end
        order by b.seq desc limit 1
    ) as p on true
    where e.seq = any (numbers);
end $$;
