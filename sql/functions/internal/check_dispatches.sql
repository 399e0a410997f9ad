-- check_dispatches: refuse what is no array of enqueue's arguments.
--
-- Names the first element at fault (from 1). Whether the values are good ones is seen
-- by the statement that uses them. Where all elements have such keys alone as may be
-- any JSON, one look at the keys is enough.
--
-- Locks: none.   Time: none.
create or replace function check_dispatches(dispatches jsonb)
returns void
language plpgsql
immutable
set search_path from current
as $$
#variable_conflict use_column
declare
    texts constant text[] := array[
        'thread_id', 'payload', 'kind', 'queue', 'dedupe_key', 'on_duplicate'];
    known constant text[] := texts || array[
        'priority', 'run_id', 'dispatch_id', 'available_at', 'delay', 'max_attempts'];
    bad record;
begin
    if jsonb_typeof(check_dispatches.dispatches) is distinct from 'array' then
        raise exception 'dispatches must be a JSON array of objects' using
            errcode = 'PM005',
            detail = format('it is %s', coalesce(
                jsonb_typeof(check_dispatches.dispatches), 'null'));
    end if;
    if not exists (
        select
          from jsonb_array_elements(check_dispatches.dispatches) e (element)
         where case jsonb_typeof(e.element)
                   when 'object' then e.element - texts <> '{}'
                   else true
               end)
    then
        return;
    end if;

    select e.ord, jsonb_typeof(e.element) as type, k.key into bad
      from jsonb_array_elements(check_dispatches.dispatches)
           with ordinality e (element, ord)
      left join lateral jsonb_object_keys(
               case jsonb_typeof(e.element) when 'object' then e.element else '{}' end
                   - known
           ) k (key) on true
     where jsonb_typeof(e.element) <> 'object' or k.key is not null
     order by e.ord
     limit 1;
    if found then
        raise exception 'element % of dispatches %', bad.ord,
              case
                  when bad.key is null then 'is not an object but ' || bad.type
                  else 'has an unknown key ' || quote_literal(bad.key)
              end
        using errcode = 'PM005', hint = 'the keys are ' || array_to_string(known, ', ');
    end if;

    begin
        perform count(e)
           from jsonb_to_recordset(check_dispatches.dispatches) as e (
                    priority int, run_id uuid, dispatch_id uuid,
                    available_at timestamptz, delay interval, max_attempts int);
    exception when data_exception then
        for bad in
            select e.ord, e.element
              from jsonb_array_elements(check_dispatches.dispatches)
                   with ordinality e (element, ord)
             order by e.ord
        loop
            begin
                perform count(e)
                   from jsonb_to_record(bad.element) as e (
                            priority int, run_id uuid, dispatch_id uuid,
                            available_at timestamptz, delay interval, max_attempts int);
            exception when data_exception then
                raise exception 'element % of dispatches has a value of the wrong type',
                      bad.ord
                using errcode = 'PM005', detail = sqlerrm;
            end;
        end loop;
        raise;
    end;
end
$$;

comment on function check_dispatches(jsonb) is
    'Internal: PM005 for what is no array of objects with the arguments of enqueue.';
