-- resume_run: a waiting run may go on (its background task has ended, say).
--
-- Gives it a dispatch, unless it has one that is live: whoever else resumes it at this
-- moment waits for this transaction, and then finds that dispatch. What each has to say
-- is in the run's detail when it goes on.
--
-- Locks: the run.   Time: the database clock.
create or replace function resume_run(run_id uuid, detail jsonb default '{}')
returns setof dispatch
language plpgsql
volatile
security definer
set search_path from current
as $$
#variable_conflict use_column
declare
    waiting run;
    carrier dispatch;
    has_one boolean;
begin
    perform check_detail(resume_run.detail);
    select r.* into waiting from run r where r.run_id = resume_run.run_id for update;
    if not found then
        raise exception 'there is no run %', resume_run.run_id using errcode = 'PM004';
    elsif waiting.status <> 'waiting' then
        raise exception 'run % is %', waiting.run_id, waiting.status using
            errcode = 'PM005',
            hint = 'only a waiting run can be resumed';
    end if;

    has_one := exists (
        select from dispatch d where d.dispatch_id = waiting.dispatch_id);
    if not has_one then
        carrier := enqueue(
            thread_id => waiting.thread_id, kind => waiting.kind,
            queue => waiting.queue, priority => waiting.priority,
            run_id => waiting.run_id);
    end if;
    update run r
       set dispatch_id = coalesce(carrier.dispatch_id, r.dispatch_id),
           detail = r.detail || coalesce(resume_run.detail, '{}'),
           updated_at = clock()
     where r.run_id = waiting.run_id;
    if not has_one then
        return next carrier;
    end if;
end
$$;

comment on function resume_run(uuid, jsonb) is
    'Enqueue a dispatch for a waiting run; no row if it has a live one. Adds detail to '
    'the run''s. PM004 unknown, PM005 when it does not wait.';
