-- empty_history_slot: truncate a slot of the history all of whose rows are past their time.
--
-- Counts first, under no lock to speak of; takes the slot's lock only if it is to be had within 50 ms, so that no settle
-- queues behind a wait for a reader; then makes sure that nothing has come in. Returns how many rows went.
create or replace function empty_history_slot(slot smallint, cutoff timestamptz)
returns bigint
language plpgsql
volatile
set search_path from current
as $$
declare
    leaf constant text := format('dispatch_history_%s', slot);
    patience constant text := current_setting('lock_timeout');
    kept boolean;
    rows bigint;
begin
    if slot = (select open_slot from history_ring) then
        return 0;
    end if;
    execute format('select exists (select from %I where completed_at > $1 or run_open)', leaf) into kept using cutoff;
    if kept then
        return 0;
    end if;
    execute format('select count(*) from %I', leaf) into rows;
    if rows = 0 then
        return 0;
    end if;
    begin
        perform set_config('lock_timeout', '50ms', true);
        execute format('lock table %I in access exclusive mode', leaf);
        execute format('select exists (select from %I where completed_at > $1 or run_open)', leaf) into kept using cutoff;
        if kept then
            rows := 0;
        else
            execute format('truncate table %I', leaf);
        end if;
        perform set_config('lock_timeout', patience, true);
        return rows;
    exception when lock_not_available then
        return 0;
    end;
end
$$;

comment on function empty_history_slot(smallint, timestamptz) is
    'Internal: truncate a slot of the history if all its rows are past their time and nobody holds it.';
