-- open_run: the run of a thread that new messages on this dispatch are for, locked.
--
-- First one that waits for input that is there. Then whichever waits, or is to be
-- retried (its dispatch is queued again), the oldest first. Only of the dispatch's
-- kind: another kind's handler could do nothing with it; input may have brought a
-- dispatch of another kind along, which is then for its run all the same.
--
-- Locks: the run.
-- Time: none.
create or replace function open_run(held dispatch)
returns setof run
language plpgsql
volatile
set search_path from current
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
begin
    return query
    select r.*
      from run r
     where r.thread_id = held.thread_id
       and r.status = 'waiting'
       and (select exists (
                select
                  from pending_message p
                 where p.thread_id = held.thread_id and p.boundary = 'resume_input'))
       and (r.kind = held.kind
            or exists (
                   select
                     from pending_message p
                    where p.thread_id = held.thread_id
                      and p.boundary = 'resume_input'
                      and p.target_run_id = r.run_id
                      and p.dispatch_id = held.dispatch_id))
       and exists (
               select frozen_by_walk(held.thread_id, 'resume_input', r.run_id, 1))
     order by r.updated_at, r.run_id
     limit 1
       for update;
    if found then
        return;
    end if;
    return query
    select r.*
      from run r
     where r.thread_id = held.thread_id
       and r.status in ('running', 'waiting')
       and r.kind = held.kind
       and (r.status = 'waiting'
            or (select true
                  from dispatch d
                 where d.dispatch_id = r.dispatch_id
                 limit 1))
     order by r.started_at, r.run_id
     limit 1
       for update;
end
$$;

comment on function open_run(dispatch) is
    'Internal: lock and return the open run of a thread that messages on this dispatch '
    'are for.';
