-- check_messages: messages are an array of objects; an id that one brings is a text.
--
-- Names the first element at fault, from 1. Thread and id stand in one index entry,
-- which has room for 2,704 bytes.
--
-- Locks: none.   Time: none.
create or replace function check_messages(thread_id text, messages jsonb)
returns void
language plpgsql
immutable
set search_path from current
as $$
#variable_conflict use_column
declare
    bad record;
begin
    if jsonb_typeof(check_messages.messages) is distinct from 'array' then
        raise exception 'messages must be a JSON array of objects' using
            errcode = 'PM005',
            detail = format('it is %s',
                            coalesce(jsonb_typeof(check_messages.messages), 'null'));
    end if;
    select m.ord, jsonb_typeof(m.element) as type, m.element -> 'id' as id into bad
      from jsonb_array_elements(check_messages.messages) with ordinality
           m (element, ord)
     where jsonb_typeof(m.element) <> 'object'
        or m.element ? 'id' and not coalesce(
               jsonb_typeof(m.element -> 'id') = 'string'
               and length(m.element ->> 'id') between 1 and 512
               and octet_length(m.element ->> 'id')
                   + octet_length(check_messages.thread_id) <= 2600, false)
     order by m.ord
     limit 1;
    if found then
        raise exception 'message % %', bad.ord, case
            when bad.type <> 'object' then 'is not an object but ' || bad.type
            else format('has the id %s, which is %s', left(bad.id::text, 600), case
                when length(bad.id #>> '{}') between 1 and 512
                     and jsonb_typeof(bad.id) = 'string'
                then 'too long: with its thread''s name it has more than 2600 bytes'
                else 'not a text of 1 to 512 characters'
            end)
        end
        using errcode = 'PM005';
    end if;
end
$$;

comment on function check_messages(text, jsonb) is
    'Internal: PM005 for messages that are not an array of objects with proper ids.';
