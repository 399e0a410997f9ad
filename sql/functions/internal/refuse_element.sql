-- refuse_element: say what is wrong with one element (from 1) of an enqueue_many.
--
-- Locks: none.   Time: none.
create or replace function refuse_element(dispatches jsonb, ord bigint)
returns void
language plpgsql
immutable
set search_path from current
as $$
#variable_conflict use_column
begin
    perform refuse_enqueue(
                e.thread_id, '{}', coalesce(e.kind, 'default'),
                coalesce(e.queue, 'default'), coalesce(e.priority, 128), e.dedupe_key,
                e.available_at, e.delay, coalesce(e.max_attempts, 5),
                coalesce(e.on_duplicate, 'raise'))
       from jsonb_to_record(
                refuse_element.dispatches -> (refuse_element.ord - 1)::int) as e (
                thread_id text, kind text, queue text, priority int, dedupe_key text,
                available_at timestamptz, delay interval, max_attempts int,
                on_duplicate text);
exception when sqlstate 'PM005' then
    raise exception 'element % of dispatches: %', refuse_element.ord, sqlerrm using
        errcode = 'PM005';
end
$$;

comment on function refuse_element(jsonb, bigint) is
    'Internal: PM005 with what is wrong about an element of an array of dispatches.';
