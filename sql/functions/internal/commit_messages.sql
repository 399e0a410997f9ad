-- commit_messages: give messages their seq, for good.
--
-- The one way into the committed log: consecutive seq from the thread's watermark,
-- which rises in the same statement as the event that says so. The caller has locked
-- the thread.
--
-- Locks: the thread, the run.   Time: the database clock.
create or replace function commit_messages(
    locked thread,
    message_ids text[],
    payloads jsonb[],
    created_ats timestamptz[],
    run_id uuid,
    dispatch_id uuid,
    written boolean
)
returns setof message
language plpgsql
volatile
set search_path from current
set enable_seqscan = off
set jit = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
    now constant timestamptz := clock();
    amount constant int := cardinality(commit_messages.message_ids);
    last constant bigint := locked.last_seq + amount;
begin
    if amount = 0 then
        return;
    end if;
    insert into message (
        thread_id, seq, message_id, run_id, dispatch_id, written, created_at,
        committed_at, payload)
    select locked.thread_id, locked.last_seq + m.ord, m.message_id,
           commit_messages.run_id, commit_messages.dispatch_id,
           commit_messages.written, coalesce(m.created_at, now), now, m.payload
      from unnest(commit_messages.message_ids, commit_messages.payloads,
                  commit_messages.created_ats)
           with ordinality m (message_id, payload, created_at, ord);
    update thread t
       set last_seq = last,
           published_seq = case
               when t.published_seq = locked.last_seq then last else t.published_seq
           end,
           pending_revision = case
               when commit_messages.written then t.pending_revision
               else nextval('event_id_seq')
           end,
           updated_at = now
     where t.thread_id = locked.thread_id;
    perform record_event(
        'messages_committed', locked.thread_id, commit_messages.dispatch_id,
        commit_messages.run_id, null, null,
        jsonb_build_object(
            'from_seq', locked.last_seq + 1, 'to_seq', last,
            'written', commit_messages.written));
    update run r
       set input_from_seq = coalesce(r.input_from_seq, locked.last_seq + 1),
           input_to_seq = last, updated_at = now
     where not commit_messages.written and r.run_id = commit_messages.run_id;
    return query
    select m.*
      from message m
     where m.thread_id = locked.thread_id and m.seq > locked.last_seq and m.seq <= last
     order by m.seq;
end
$$;

comment on function commit_messages(
    thread, text[], jsonb[], timestamptz[], uuid, uuid, boolean
) is
    'Internal: append messages to a thread''s committed log (read by a run, or '
    'written).';
