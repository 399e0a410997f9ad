-- turn_history_ring: write to the next slot from now on, when this one has been open
-- for long enough and that one is empty.
--
-- Locks: rows of history_ring, never waiting.   Time: the database clock.
create or replace function turn_history_ring(open_for interval)
returns boolean
language plpgsql
volatile
set search_path from current
as $$
#variable_conflict use_column
declare
    now constant timestamptz := clock();
    present history_ring;
    next_slot smallint;
    taken boolean;
begin
    select r.* into present from history_ring r where r.is_open for update skip locked;
    if not found or present.opened_at > now - turn_history_ring.open_for then
        return false;
    end if;
    next_slot := ((present.slot + 1) % 6)::smallint;
    execute format(
        'select exists (select from %I)', format('dispatch_history_%s', next_slot)
    ) into taken;
    if taken then
        return false;
    end if;
    update history_ring r
       set is_open = false, closed_at = now
     where r.slot = present.slot;
    update history_ring r
       set is_open = true, opened_at = now, closed_at = null
     where r.slot = next_slot;
    return true;
end
$$;

comment on function turn_history_ring(interval) is
    'Internal: open the next slot of the history ring if it is time.';
