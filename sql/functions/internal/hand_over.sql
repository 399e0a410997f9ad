-- hand_over: claim the next of lanes that this transaction has just freed, without
-- making it ready first.
--
-- That saves a new version of the row and its entries in three indexes, for each item
-- of a lane that has more. The caller sees to the order across lanes: what is handed
-- over would have gone to the end of the ready index, so it may be taken only when
-- nothing that stands there is left, or all of that is taken as well.
--
-- No other transaction can claim in them meanwhile: it sees what was claimed until this
-- one commits, and then what has been taken here. A lane of which nothing is taken is
-- woken as usual (it has no next one, say, or that is in another queue, or locked).
--
-- Locks: dispatch rows (skip locked). Waits for nothing.   Time: the database clock.
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
    heads tid[];
    left_over text[];
begin
    heads := find_heads(null, hand_over.thread_ids, open_queues, overdue);
    return query select * from take(heads, hand_over.consumer_id, hand_over.lease);
    if found then
        perform note_awake(hand_over.consumer_id);
    end if;
    left_over := array(
        select t.thread_id
          from unnest(hand_over.thread_ids, heads) t (thread_id, head)
         where t.head is null);
    if left_over <> '{}' then
        perform wake_lanes(left_over);
    end if;
end
$$;

comment on function hand_over(text[], text[], text, interval) is
    'Internal: claim the next of lanes that this transaction has freed.';
