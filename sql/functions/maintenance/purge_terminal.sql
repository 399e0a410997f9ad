-- purge_terminal: remove terminal dispatches that have been so for longer than
-- older_than.
--
-- A dispatch whose run has not been brought in line stays. Without max_dispatches, a
-- slot of the history ring all of whose rows are past their time is emptied by
-- truncate; what is in a slot that somebody reads, or that is only partly past, is
-- deleted row by row. With max_dispatches all is deleted row by row, the oldest slot
-- first, at most that many. What is truncated stays locked until the transaction ends,
-- and readers of the history wait for it: call it in a transaction of its own.
--
-- Locks: access exclusive on slots that are not being written, if they are free (at
-- most 50 ms each); rows elsewhere, never waiting.   Time: the database clock.
create or replace function purge_terminal(
    older_than interval default '24 h',
    max_dispatches int default null
)
returns bigint
language plpgsql
volatile
security definer
set search_path from current
set enable_seqscan = off
set jit = off
as $$
#variable_conflict use_column
declare
    now constant timestamptz := clock();
    cutoff timestamptz;
    ring record;
    purged bigint := 0;
    deleted bigint;
begin
    perform check_age(purge_terminal.older_than);
    if purge_terminal.max_dispatches is not null then
        perform check_count('max_dispatches', purge_terminal.max_dispatches);
    end if;
    cutoff := now - purge_terminal.older_than;

    -- what was opened after the cutoff holds nothing that is past its time, unless the
    -- clock has been put back, or each session may have its own (migrate --test-clock)
    for ring in
        select r.slot
          from history_ring r
         where r.opened_at <= cutoff
            or r.opened_at > now
            or r.opened_at is not null and (select p.test_clock from repeatable p)
         order by r.opened_at
    loop
        if purge_terminal.max_dispatches is null then
            purged := purged + empty_history_slot(ring.slot, cutoff);
        end if;
        execute format(
            'delete from %1$I where ctid = any (array('
            'select ctid from %1$I where completed_at <= $1 and not run_open '
            'limit $2 for update skip locked))',
            format('dispatch_history_%s', ring.slot))
          using cutoff, purge_terminal.max_dispatches - purged;
        get diagnostics deleted = row_count;
        purged := purged + deleted;
        exit when purged >= purge_terminal.max_dispatches;
    end loop;
    return purged;
end
$$;

comment on function purge_terminal(interval, int) is
    'Remove dispatches that have been terminal for longer than older_than, at most '
    'max_dispatches; returns how many.';
