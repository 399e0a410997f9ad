-- turn_history_ring: write to the next slot from now on, when this one has been open
-- for long enough and that one is empty.
--
-- Locks: the row of history_ring, never waiting.   Time: the database clock.
create or replace function turn_history_ring(open_for interval)
returns boolean
language plpgsql
volatile
set search_path from current
as $$
#variable_conflict use_column
declare
    ring history_ring;
    next_slot smallint;
    taken boolean;
begin
    select r.* into ring from history_ring r for update skip locked;
    if not found or ring.opened_at > clock() - turn_history_ring.open_for then
        return false;
    end if;
    next_slot := (ring.open_slot + 1) % 6;
    execute format(
        'select exists (select from %I)', format('dispatch_history_%s', next_slot)
    ) into taken;
    if taken then
        return false;
    end if;
    update history_ring set open_slot = next_slot, opened_at = clock();
    return true;
end
$$;

comment on function turn_history_ring(interval) is
    'Internal: open the next slot of the history ring if it is time.';
