-- empty_history_slot: truncate a slot of the history that was closed before the cutoff,
-- all of whose rows are past their time. Returns how many rows went.
--
-- What was closed later may hold rows that are not, and is not even looked at: it may
-- be large. A row that was settled in a transaction which outlasted the turn, or whose
-- run is open, keeps its slot; purge_terminal takes the others.
--
-- Looks and counts first, under no lock to speak of; takes the slot's lock only if it
-- is to be had within 50 ms, so that nobody queues behind a wait for a reader; then
-- makes sure that nothing has come in that is to stay. The lock is kept until the
-- transaction ends and keeps readers of the history waiting, not those who settle
-- (retire). Not under an older snapshot than this statement's, which would not show
-- what has come in.
--
-- Locks: access exclusive on the slot, if it is free.   Time: none.
create or replace function empty_history_slot(slot smallint, cutoff timestamptz)
returns bigint
language plpgsql
volatile
set search_path from current
as $$
declare
    leaf constant text := format('dispatch_history_%s', slot);
    -- in two, so that each may go by its index
    glance constant text := format(
        'select not exists (select from %1$I where completed_at > $1) '
        'and not exists (select from %1$I where run_open)', leaf);
    lock constant text := format('lock table %I in access exclusive mode', leaf);
    patience constant text := current_setting('lock_timeout');
    is_past boolean;
    has_any boolean;
    rows bigint;
begin
    if not exists (
           select
             from history_ring r
            where r.slot = empty_history_slot.slot and r.closed_at <= cutoff)
       or current_setting('transaction_isolation') <> 'read committed'
    then
        return 0;
    end if;
    execute glance into is_past using cutoff;
    execute format('select exists (select from %I)', leaf) into has_any;
    if not (is_past and has_any) then
        return 0;
    end if;
    begin  -- not to count for nothing, and not under the lock: is it to be had?
        perform set_config('lock_timeout', '50ms', true);
        execute lock;
        raise exception 'it is let go again';
    exception
        when lock_not_available then return 0;
        when raise_exception then null;
    end;
    execute format('select count(*) from %I', leaf) into rows;
    begin
        perform set_config('lock_timeout', '50ms', true);
        execute lock;
        execute glance into is_past using cutoff;
        if is_past then
            execute format('truncate table %I', leaf);
        else
            rows := 0;
        end if;
        perform set_config('lock_timeout', patience, true);
        return rows;
    exception when lock_not_available then
        return 0;
    end;
end
$$;

comment on function empty_history_slot(smallint, timestamptz) is
    'Internal: truncate a slot of the history if all its rows are past their time and '
    'nobody holds it.';
