-- wake_background_runs: runs that wait for background tasks and have no dispatch get
-- one.
--
-- The process that would have resumed them may have died; the handler finds out what
-- has become of the tasks. Examines one page by run_id and returns it, each run with
-- whether it was woken here; go on after the last run_id until there is none. A run
-- that somebody has locked is being resumed, and is passed over.
--
-- Locks: rows of run, never waiting.   Time: the database clock.
create or replace function wake_background_runs(
    page_size int default 256,
    after uuid default null,
    out waiting_run_id uuid,
    out woken boolean
)
returns setof record
language plpgsql
volatile
security definer
set search_path from current
set enable_seqscan = off
set jit = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
    -- no "or": a page begins where the last one ended, in the index
    first constant uuid := coalesce(
        wake_background_runs.after, '00000000-0000-0000-0000-000000000000');
    page uuid[];
begin
    perform check_page(wake_background_runs.page_size);
    page := array(
        select r.run_id
          from run r
         where r.status = 'waiting'
           and r.waiting_reason = 'background_tasks'
           and r.run_id >= first
           and r.run_id is distinct from wake_background_runs.after
         order by r.run_id
         limit wake_background_runs.page_size);

    return query
    with free as materialized (
        select r.run_id
          from run r
         where r.run_id = any (page)
           and r.status = 'waiting'
           and (select true
                  from dispatch d
                 where d.dispatch_id = r.dispatch_id
                 limit 1) is null
           -- nor one that the run has set for itself since it began (an alarm; what is
           -- older resumes nothing: see start_run), as far as the front of its lane
           -- tells
           and not exists (
                   select
                     from (select d.run_id, d.created_at
                             from dispatch d
                            where d.thread_id = r.thread_id
                              and d.phase in ('ready', 'blocked')
                            order by d.priority, d.seq
                            limit 100) q
                    where q.run_id = r.run_id
                      and (q.created_at <= r.started_at) is not true
                   union all
                   select
                     from (select d.run_id, d.created_at
                             from dispatch d
                            where d.thread_id = r.thread_id and d.phase = 'scheduled'
                            order by d.priority, d.seq
                            limit 100) s
                    where s.run_id = r.run_id
                      and (s.created_at <= r.started_at) is not true
                   union all
                   select
                     from dispatch c
                    where c.thread_id = r.thread_id
                      and c.status = 'claimed'
                      and c.run_id = r.run_id
                      and (c.created_at <= r.started_at) is not true)
         order by r.run_id
           for update skip locked
    ), resumed as materialized (
        select f.run_id, exists (select from resume_run(f.run_id)) as new from free f
    )
    select p.run_id, p.run_id = any (array(select r.run_id from resumed r where r.new))
      from unnest(page) with ordinality p (run_id, ord)
     order by p.ord;
end
$$;

comment on function wake_background_runs(int, uuid) is
    'Enqueue dispatches for one page of runs that wait for background tasks and have '
    'none; returns the page, with whether each was woken.';
