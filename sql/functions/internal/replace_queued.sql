-- replace_queued: what is queued in a thread and has not started makes way.
--
-- The dispatches become superseded and what came with them is retracted, and so is what
-- they would have read, that is, what came with a dispatch that is no more and may be
-- read by a new run, unless one is claimed that is about to read it. One that is locked
-- (being claimed or cancelled) has started or ended, and stays out of it, and so does
-- one whose run has started: it waits for its retry, or is to go on. So is the run that
-- a dispatch has brought input for.
--
-- Locks: queued rows (skip locked), the thread.
-- Time: the database clock.
create or replace function replace_queued(thread_id text)
returns int
language plpgsql
volatile
set search_path from current
set seq_page_cost = 0
set random_page_cost = 0
set enable_seqscan = off
set jit = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
    resuming constant uuid[] := array(
        select p.dispatch_id
          from pending_message p
         where p.thread_id = replace_queued.thread_id
           and p.boundary = 'resume_input'
           and p.dispatch_id is not null
           and (select r.status from run r where r.run_id = p.target_run_id) <> 'done');
    queued uuid[];
begin
    queued := array(
        select d.dispatch_id
          from dispatch d
         where d.thread_id = replace_queued.thread_id
           and d.phase in ('ready', 'blocked')
           and (select r.started_at from run r where r.run_id = d.run_id) is null
           and d.dispatch_id <> all (resuming)
           for update skip locked)
        || array(
        select d.dispatch_id
          from dispatch d
         where d.thread_id = replace_queued.thread_id
           and d.phase = 'scheduled'
           and (select r.started_at from run r where r.run_id = d.run_id) is null
           and d.dispatch_id <> all (resuming)
           for update skip locked);
    if queued = '{}' then
        return 0;
    end if;
    perform lock_thread(replace_queued.thread_id);
    delete from pending_message p
     where p.thread_id = replace_queued.thread_id
       and p.dispatch_id is not null
       and (p.dispatch_id = any (queued)
            or freeze_verdict(row(p.*)::pending_message, 'new_run', null) = 'take'
               and (select true
                      from dispatch d
                     where d.dispatch_id = p.dispatch_id
                     limit 1) is null
               and not exists (
                       select
                         from dispatch c
                        where c.thread_id = replace_queued.thread_id
                          and c.status = 'claimed'
                          and c.run_status is null));
    perform touch_pending(replace_queued.thread_id);
    perform retire(queued, null, 'superseded', readers => false);
    return cardinality(queued);
end
$$;

comment on function replace_queued(text) is
    'Internal: supersede a thread''s queued dispatches and retract what came with '
    'them.';
