-- gc: one bounded pass of the recurring clean-up.
--
-- Turns the history ring a quarter of the time to live after the last turn, empties slots that are past their time, and
-- deletes at most max_rows terminal dispatches and as many events beyond that one by one: small installations are cleaned
-- to the row, large ones by the slot. Call it again while it says that more is left.
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
    cutoff constant timestamptz := clock() - gc.older_than;
    deleted bigint;
begin
    perform check_duration('older_than', gc.older_than, true);
    if gc.older_than is null or coalesce(gc.max_rows, 0) < 1 then
        perform refuse_claim('gc', gc.max_rows);
    end if;
    perform turn_history_ring(gc.older_than / 4);
    purged_dispatches := 0;
    for slot in 0 .. 5 loop
        purged_dispatches := purged_dispatches + empty_history_slot(slot::smallint, cutoff);
    end loop;
    deleted := purge_terminal(gc.older_than, gc.max_rows);
    purged_dispatches := purged_dispatches + deleted;

    with past as materialized (
        select e.event_id from event e where e.at <= cutoff order by e.event_id limit gc.max_rows for update skip locked
    )
    delete from event e using past where e.event_id = past.event_id;
    get diagnostics purged_events = row_count;
    delete from consumer c where c.seen_at <= cutoff;
    more := deleted = gc.max_rows or purged_events = gc.max_rows;
end
$$;

comment on function gc(interval, int) is
    'One bounded pass of the clean-up of terminal dispatches, events and consumers not seen for older_than; says whether more is left.';
