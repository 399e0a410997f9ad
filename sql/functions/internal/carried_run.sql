-- carried_run: the run that this dispatch is to carry, locked; a null row for none.
--
-- The one that it was enqueued with, or else the one that its holder names. A dispatch
-- whose run is done (somebody else resumed and finished it, say) carries none any more;
-- a holder that names such a run is told.
-- Who names a run that has been merged into the one carried, because the answer to the
-- call before was lost, means that one.
--
-- Locks: the run.
-- Time: none.
create or replace function carried_run(held dispatch, named uuid)
returns run
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
    wanted constant uuid := coalesce(held.run_id, carried_run.named);
    carried run;
begin
    if carried_run.named <> wanted then
        select r.* into carried from run r where r.run_id = carried_run.named;
        if not found then
            raise exception 'there is no run %', carried_run.named using
                errcode = 'PM004';
        elsif carried.detail ->> 'merged_into' is distinct from wanted::text then
            raise exception 'dispatch % carries run %, not %', held.dispatch_id, wanted,
                  carried_run.named using errcode = 'PM005';
        end if;
    elsif wanted is null then
        return null;
    end if;
    select r.* into carried from run r where r.run_id = wanted for update;
    if not found then
        raise exception 'there is no run %', wanted using errcode = 'PM004';
    elsif carried.thread_id <> held.thread_id then
        raise exception 'run % is of thread %, not %', wanted, carried.thread_id,
              held.thread_id using errcode = 'PM005';
    elsif carried.status = 'done'
      and (held.run_id is null or carried_run.named is not null)
    then
        raise exception 'run % is done', wanted using
            errcode = 'PM005',
            detail = format('its termination is %s', carried.termination);
    elsif carried.status = 'done' then
        return null;
    end if;
    return carried;
end
$$;

comment on function carried_run(dispatch, uuid) is
    'Internal: lock and return the run that a dispatch is to carry; PM004 unknown, '
    'PM005 when it is of another thread, done, or not the one carried.';
