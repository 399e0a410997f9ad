-- hand_over: claim the next of lanes that this transaction has just freed, without
-- making it ready first.
--
-- That saves a new version of the row and its entries in three indexes, for each item
-- of a lane that has more. The caller sees to the order across lanes: what is handed
-- over would have gone to the end of the ready index, so it may be taken only when
-- nothing that stands there is left, or all of that is taken as well.
--
-- As in claim, the lanes are locked by one statement and looked at by another, with a
-- snapshot that was taken after the locks were won. A lane of which nothing is taken is
-- woken as usual (its head is in another queue, say, or locked).
--
-- Locks: lane locks (advisory, tried), dispatch rows (skip locked). Waits for nothing.
-- Time: the database clock.
create or replace function hand_over(
    thread_ids text[],
    queues text[],
    consumer_id text,
    lease interval
)
returns setof dispatch
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
    open_queues constant text[] := array(
        select q.queue
          from unnest(hand_over.queues) q (queue)
         where not exists (
               select
                 from queue p
                where p.queue = q.queue and p.paused_at is not null));
    overdue constant boolean := exists (
        select
          from dispatch d
         where d.phase = 'scheduled' and d.available_at <= clock());
    locked text[];
    taken int;
begin
    locked := array(
        select t.thread_id
          from unnest(hand_over.thread_ids) t (thread_id)
         where lane_lock(t.thread_id));
    return query
    select *
      from take(
               find_heads(null, locked, open_queues, overdue), hand_over.consumer_id,
               hand_over.lease);
    get diagnostics taken = row_count;
    if taken > 0 then
        perform note_awake(hand_over.consumer_id);
    end if;
    if taken < cardinality(hand_over.thread_ids) then
        perform wake_lanes(hand_over.thread_ids);
    end if;
end
$$;

comment on function hand_over(text[], text[], text, interval) is
    'Internal: claim the next of lanes that this transaction has freed.';
