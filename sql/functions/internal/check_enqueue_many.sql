-- check_enqueue_many: refuse a bad array before anything is written; give every element
-- its id.
--
-- Names the first element at fault (from 1) and what is wrong with it.
--
-- Locks: none.   Time: none.
create or replace function check_enqueue_many(dispatches jsonb)
returns uuid[]
language plpgsql
volatile
set search_path from current
as $$
#variable_conflict use_column
declare
    known constant text[] := array[
        'thread_id', 'payload', 'kind', 'queue', 'priority', 'run_id', 'dispatch_id',
        'dedupe_key', 'available_at', 'delay', 'max_attempts', 'on_duplicate'];
    bad record;
    bad_ord bigint;
    ids uuid[];
begin
    if jsonb_typeof(check_enqueue_many.dispatches) is distinct from 'array' then
        raise exception 'dispatches must be a JSON array of objects' using
            errcode = 'PM005',
            detail = format('it is %s', coalesce(
                jsonb_typeof(check_enqueue_many.dispatches), 'null'));
    end if;

    select e.ord, jsonb_typeof(e.element) as type, k.key into bad
      from jsonb_array_elements(check_enqueue_many.dispatches)
           with ordinality e (element, ord)
      left join lateral jsonb_object_keys(
               case jsonb_typeof(e.element) when 'object' then e.element else '{}' end
           ) k (key) on k.key <> all (known)
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
        select array_agg(coalesce(e.dispatch_id, new_id()) order by e.ord),
               min(e.ord) filter (where not coalesce(
                   length(coalesce(e.kind, 'default')) between 1 and 512
                   and length(coalesce(e.queue, 'default')) between 1 and 512
                   and coalesce(e.priority, 128) between 0 and 255
                   and coalesce(e.max_attempts, 5) >= 1
                   and coalesce(e.on_duplicate, 'raise') in ('raise', 'return')
                   and (e.thread_id is null or length(e.thread_id) between 1 and 512)
                   and (e.dedupe_key is null
                        or length(e.dedupe_key) between 1 and 512
                           and octet_length(e.dedupe_key) + octet_length(
                                   coalesce(e.thread_id, e.queue, 'default')) <= 2600)
                   and (e.available_at is null or e.available_at < 'infinity')
                   and (e.delay is null
                        or e.available_at is null
                           and e.delay between interval '0' and interval '1000 years'),
                   false))
          into ids, bad_ord
          from rows from (
                   jsonb_to_recordset(check_enqueue_many.dispatches) as (
                       thread_id text, kind text, queue text, priority int,
                       dispatch_id uuid, run_id uuid, dedupe_key text,
                       available_at timestamptz, delay interval, max_attempts int,
                       on_duplicate text)
               ) with ordinality e (
                   thread_id, kind, queue, priority, dispatch_id, run_id, dedupe_key,
                   available_at, delay, max_attempts, on_duplicate, ord);
    exception when data_exception then
        raise exception 'dispatches has a value of the wrong type: %', sqlerrm using
            errcode = 'PM005';
    end;
    if bad_ord is not null then
        begin
            perform refuse_enqueue(
                        e.thread_id, '{}', coalesce(e.kind, 'default'),
                        coalesce(e.queue, 'default'), coalesce(e.priority, 128),
                        e.dedupe_key, e.available_at, e.delay,
                        coalesce(e.max_attempts, 5), coalesce(e.on_duplicate, 'raise'))
               from jsonb_to_record(
                        check_enqueue_many.dispatches -> (bad_ord - 1)::int) as e (
                        thread_id text, kind text, queue text, priority int,
                        dedupe_key text, available_at timestamptz, delay interval,
                        max_attempts int, on_duplicate text);
        exception when sqlstate 'PM005' then
            raise exception 'element % of dispatches: %', bad_ord, sqlerrm using
                errcode = 'PM005';
        end;
    end if;
    return coalesce(ids, '{}');
end
$$;

comment on function check_enqueue_many(jsonb) is
    'Internal: PM005 for a bad array of dispatches; otherwise an id for each element.';
