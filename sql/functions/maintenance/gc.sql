-- gc: one bounded pass of the recurring clean-up.
--
-- Turns the history ring a quarter of the time to live after the last turn, deletes at
-- most max_rows terminal dispatches and as many events one by one, and empties the
-- slots that are past their time as a whole: small installations are cleaned to the
-- row, large ones by the slot, a quarter later at most. The slots come last, because
-- they stay locked until the transaction ends. Call it again while it says that more is
-- left; of dispatches it does not say so, since those that are too many to be deleted
-- one by one are to go with their slot.
--
-- Events are numbered as they happen, so that the oldest stand first: no more of them
-- are looked at than may be deleted, and none is locked that stays. A lane that says
-- nothing any more (no policy, no pause, no halt) is forgotten, and a consumer that was
-- not seen for that long, unless its session is there still. Both are looked at again
-- once they are locked.
--
-- Locks: as purge_terminal.   Time: the database clock.
create or replace function gc(
    older_than interval default '24 h',
    max_rows int default 10000,
    out purged_dispatches bigint,
    out purged_events bigint,
    out more boolean
)
returns record
language plpgsql
volatile
security definer
set search_path from current
as $$
#variable_conflict use_column
declare
    cutoff timestamptz;
    past bigint[];
begin
    perform check_age(gc.older_than);
    perform check_count('max_rows', gc.max_rows);
    cutoff := clock() - gc.older_than;
    perform turn_history_ring(gc.older_than / 4);

    past := array(
        select o.event_id
          from (select e.event_id, e.at
                  from event e
                 order by e.event_id
                 limit gc.max_rows) o
         where o.at <= cutoff);
    delete from event e
     where e.event_id = any (array(
               select p.event_id
                 from event p
                where p.event_id = any (past)
                  for update skip locked));
    get diagnostics purged_events = row_count;
    delete from lane l
     where l.thread_id = any (array(
               select i.thread_id
                 from lane i
                where i.policy = 'skip' and i.paused_at is null and i.halted_at is null
                  and i.updated_at <= cutoff
                order by i.updated_at
                limit gc.max_rows
                  for update skip locked));
    delete from consumer c
     where c.seen_at <= cutoff
       and not is_session(c.backend_pid, c.backend_start);

    purged_dispatches := purge_terminal(gc.older_than, gc.max_rows);
    for slot in 0 .. 5 loop
        purged_dispatches :=
            purged_dispatches + empty_history_slot(slot::smallint, cutoff);
    end loop;
    more := purged_events = gc.max_rows;
end
$$;

comment on function gc(interval, int) is
    'One bounded pass of the clean-up of terminal dispatches, events, lanes that say '
    'nothing and consumers not seen for older_than; says whether more is left.';
