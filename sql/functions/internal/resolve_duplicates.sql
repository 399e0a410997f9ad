-- resolve_duplicates: the elements of an enqueue_many that met a unique key go through
-- enqueue, which decides.
--
-- ids: the id of each element; stored: those that were inserted. Returns the ids to
-- answer with, by element.
--
-- Locks: as enqueue.   Time: the database clock.
create or replace function resolve_duplicates(
    dispatches jsonb,
    ids uuid[],
    stored uuid[]
)
returns uuid[]
language plpgsql
volatile
set search_path from current
as $$
#variable_conflict use_column
begin
    return array(
        select case
                   when e.id = any (resolve_duplicates.stored)
                        and e.ord = array_position(resolve_duplicates.ids, e.id)
                   then e.id
                   else (
                       select d.dispatch_id
                         from enqueue(
                             thread_id => e.thread_id,
                             payload => coalesce(e.payload, '{}'),
                             kind => coalesce(e.kind, 'default'),
                             queue => coalesce(e.queue, 'default'),
                             priority => coalesce(e.priority, 128),
                             run_id => e.run_id,
                             dispatch_id => e.dispatch_id,
                             dedupe_key => e.dedupe_key,
                             available_at => e.available_at,
                             delay => e.delay,
                             max_attempts => coalesce(e.max_attempts, 5),
                             on_duplicate => coalesce(e.on_duplicate, 'raise')) d)
               end
          from rows from (
                   unnest(resolve_duplicates.ids),
                   jsonb_to_recordset(resolve_duplicates.dispatches) as (
                       thread_id text, payload jsonb, kind text, queue text,
                       priority int, run_id uuid, dispatch_id uuid, dedupe_key text,
                       available_at timestamptz, delay interval, max_attempts int,
                       on_duplicate text)
               ) with ordinality e (
                   id, thread_id, payload, kind, queue, priority, run_id, dispatch_id,
                   dedupe_key, available_at, delay, max_attempts, on_duplicate, ord)
         order by e.ord);
end
$$;

comment on function resolve_duplicates(jsonb, uuid[], uuid[]) is
    'Internal: settle the elements of an enqueue_many that met a unique key.';
