-- purge_terminal: remove terminal dispatches that have been so for longer than older_than.
--
-- A slot of the history ring all of whose rows are past their time is emptied by truncate, without waiting: while somebody
-- reads it, its rows are deleted one by one like those of a slot that is only partly past. A dispatch whose run has not been
-- brought in line stays. With max_dispatches, rows are deleted one by one, oldest first, at most that many.
--
-- Locks: access exclusive on a slot that is not being written, if it is free (at most 50 ms); rows elsewhere.
-- Time: the database clock.
create or replace function purge_terminal(older_than interval default '24 h', max_dispatches int default null)
returns bigint
language plpgsql
volatile
security definer
set search_path from current
as $$
#variable_conflict use_column
declare
    cutoff constant timestamptz := clock() - purge_terminal.older_than;
    purged bigint := 0;
    deleted bigint;
begin
    perform check_duration('older_than', purge_terminal.older_than, true);
    if purge_terminal.max_dispatches < 1 then
        perform refuse_claim('purge', purge_terminal.max_dispatches);
    end if;
    if purge_terminal.older_than is null then
        raise exception 'older_than must not be null' using errcode = 'PM005';
    end if;

    if purge_terminal.max_dispatches is null then
        for slot in 0 .. 5 loop
            purged := purged + empty_history_slot(slot::smallint, cutoff);
        end loop;
    end if;
    with past as materialized (
        select h.history_slot, h.ctid as tid
          from dispatch_history h
         where h.completed_at <= cutoff and not h.run_open
         order by h.completed_at
         limit purge_terminal.max_dispatches
           for update skip locked
    )
    delete from dispatch_history h
     using past
     where h.history_slot = past.history_slot and h.ctid = past.tid;
    get diagnostics deleted = row_count;
    return purged + deleted;
end
$$;

comment on function purge_terminal(interval, int) is
    'Remove dispatches that have been terminal for longer than older_than, at most max_dispatches; returns how many.';
