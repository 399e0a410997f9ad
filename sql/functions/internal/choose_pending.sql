-- choose_pending: the pending messages that a boundary lets a run read. The caller has
-- locked the thread.
--
-- A message whose id is committed already is thrown away, never read twice, and put on
-- record: deliver refuses such a one (PM007), but a deliverer whose snapshot is older
-- than the commit (REPEATABLE READ) cannot see it, and takes no lock that would tell.
--
-- Locks: the pending messages that it throws away.   Time: the database clock.
create or replace function choose_pending(thread_id text, boundary text, run_id uuid)
returns text[]
language plpgsql
volatile
set search_path from current
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
    chosen text[];
    read_before text[];
begin
    loop
        chosen := array(
            select frozen_by_walk(
                choose_pending.thread_id, choose_pending.boundary,
                choose_pending.run_id));
        read_before := array(
            select c.id
              from unnest(chosen) c (id)
             where (select true
                      from message m
                     where m.thread_id = choose_pending.thread_id
                       and m.message_id = c.id
                     limit 1));
        exit when read_before = '{}';
        delete from pending_message p
         where p.thread_id = choose_pending.thread_id
           and p.message_id = any (read_before);
        perform touch_pending(choose_pending.thread_id);
        perform record_event(
            'messages_discarded', choose_pending.thread_id,
            detail => jsonb_build_object(
                'reason', 'committed before', 'message_ids', to_jsonb(read_before)));
    end loop;
    return chosen;
end
$$;

comment on function choose_pending(text, text, uuid) is
    'Internal: the ids of the pending messages that a boundary lets a run read, in '
    'order.';
