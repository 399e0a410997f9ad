-- pay_lane_wakes: settle what wake_lanes and interrupt had to leave.
--
-- Looks again at each lane that was written down: its stale dispatches become
-- superseded, its next one is woken. A lane whose rows are still locked stays written
-- down, without being written anew. Returns whether anything was achieved; claim calls
-- it until nothing is, so that what one call does is bounded and the whole is not.
--
-- Under REPEATABLE READ what this transaction owes itself is left to another: its
-- snapshot may not show all that waits there.
--
-- Locks: rows of lane_wake and queued rows, never waiting.   Time: the database clock.
create or replace function pay_lane_wakes(served text[])
returns boolean
language plpgsql
volatile
set search_path from current
as $$
#variable_conflict use_column
declare
    is_old constant boolean :=
        current_setting('transaction_isolation') <> 'read committed';
    debt record;
    cleared record;
    owed text[];
    paid int;
begin
    select array_agg(w.tid) as tids, array_agg(distinct w.thread_id) as threads
      into debt
      from (select l.ctid as tid, l.thread_id
              from lane_wake l
             where not is_old
                or l.xmin is distinct from pg_current_xact_id_if_assigned()::xid
                   and age(l.xmin) > age(pg_snapshot_xmax(pg_current_snapshot())::xid)
             limit 1000
               for update skip locked) w;
    if debt.threads is null then
        return false;
    end if;

    select s.superseded, s.remaining into cleared
      from supersede_queued(debt.threads, lanes => 'leave') s;
    owed := wake_lanes(debt.threads, pay_lane_wakes.served, note => false)
            || cleared.remaining;
    delete from lane_wake w
     where w.ctid = any (debt.tids) and w.thread_id <> all (owed);
    get diagnostics paid = row_count;
    return paid > 0 or cleared.superseded > 0;
end
$$;

comment on function pay_lane_wakes(text[]) is
    'Internal: look again at the lanes that somebody had to leave unwoken; returns '
    'whether anything was achieved.';
