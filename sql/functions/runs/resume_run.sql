-- resume_run: a waiting run may go on (its background task has ended, say).
--
-- Gives it a dispatch, unless it has one that is live: whoever else resumes it at this
-- moment waits for this transaction, and then finds that dispatch.
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
begin
    select r.* into waiting from run r where r.run_id = resume_run.run_id for update;
    if not found then
        raise exception 'there is no run %', resume_run.run_id using errcode = 'PM004';
    elsif waiting.status <> 'waiting' then
        raise exception 'run % is %', waiting.run_id, waiting.status using
            errcode = 'PM005',
            hint = 'only a waiting run can be resumed';
    elsif exists (
        select from dispatch d where d.dispatch_id = waiting.dispatch_id
    ) then
        return;
    end if;

    carrier := enqueue(
        thread_id => waiting.thread_id, kind => waiting.kind, queue => waiting.queue,
        priority => waiting.priority, run_id => waiting.run_id);
    update run r
       set dispatch_id = carrier.dispatch_id,
           detail = r.detail || coalesce(resume_run.detail, '{}'),
           updated_at = clock()
     where r.run_id = waiting.run_id;
    return next carrier;
end
$$;

comment on function resume_run(uuid, jsonb) is
    'Enqueue a dispatch for a waiting run; no row if it has a live one. PM004 unknown, '
    'PM005 when it does not wait.';
