-- What a caller may not see does not exist in the log's answers either, nor after it is gone.

-- Items that not everybody may see, whether they are still there or not. A row goes when its item becomes as public as its collection.
create table federator.private_item (
    collection_id text not null,
    item_id text not null,
    private jsonb not null,
    primary key (collection_id, item_id)
);
insert into federator.private_item select collection, id, private from pgstac.items where private is not null;

create function federator.note_private() returns trigger language plpgsql security definer set search_path = pg_catalog as $$
begin
    if new.private is null then
        delete from federator.private_item where collection_id = new.collection and item_id = new.id;
    else
        insert into federator.private_item values (new.collection, new.id, new.private)
        on conflict (collection_id, item_id) do update set private = excluded.private;
    end if;
    return null;
end $$;
create trigger note_private_made after insert on pgstac.items
    for each row when (new.private is not null) execute function federator.note_private();
create trigger note_private_changed after update of private on pgstac.items
    for each row when (old.private is distinct from new.private) execute function federator.note_private();

-- The collections that a caller may not see, and the items of others, as the log names them.
create function federator.hidden_items(principals text[]) returns table (collection_id text, item_id text) language sql stable as $$
    select collection_id, item_id from federator.private_item where not federator.may_read(private, principals)
$$;

grant select on federator.private_item to public;
