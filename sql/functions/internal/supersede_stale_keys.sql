-- supersede_stale_keys: what an interrupt has overtaken gives up the dedupe keys that
-- are about to be enqueued.
--
-- Beforehand, so that an array is enqueued in its order: an element that meets a key is
-- enqueued only after all others (resolve_duplicates).
--
-- Locks: stale dispatches that have such a key.   Time: the database clock.
create or replace function supersede_stale_keys(dispatches jsonb)
returns void
language plpgsql
volatile
set search_path from current
set enable_seqscan = off
set jit = off
set enable_bitmapscan = off
set enable_mergejoin = off
set enable_hashjoin = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
    stale constant uuid[] := array(
        select s.dispatch_id
          from jsonb_to_recordset(supersede_stale_keys.dispatches) as e (
                   thread_id text, dedupe_key text)
         cross join lateral (
             select d.dispatch_id, d.dispatch_epoch, d.phase
               from dispatch d
              where d.thread_id = e.thread_id
                and d.dedupe_key = e.dedupe_key
                and d.dedupe_key is not null
              limit 1
         ) s
         where s.phase is not null
           and s.dispatch_epoch < (
                   select t.dispatch_epoch
                     from thread_epoch t
                    where t.thread_id = e.thread_id));
begin
    perform retire(stale, null, 'superseded', lanes => 'owe');
end
$$;

comment on function supersede_stale_keys(jsonb) is
    'Internal: supersede the stale dispatches that have dedupe keys of these elements.';
