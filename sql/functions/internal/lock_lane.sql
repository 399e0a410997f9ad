-- lock_lane: make sure that a thread has a row of lane, and lock it for update.
--
-- For update, not for no key update: a claim that parks rows because of this row holds
-- it for key share, and whoever changes it must come after that claim and see what it
-- parked.
--
-- Locks: the thread's row of lane.   Time: the database clock.
create or replace function lock_lane(thread_id text)
returns void
language plpgsql
volatile
set search_path from current
as $$
#variable_conflict use_column
begin
    loop
        insert into lane (thread_id, updated_at)
        values (lock_lane.thread_id, clock())
            on conflict do nothing;
        perform from lane l where l.thread_id = lock_lane.thread_id for update;
        exit when found;  -- else the clean-up was just deleting it
    end loop;
end
$$;

comment on function lock_lane(text) is
    'Internal: lock a thread''s row of lane, making it if there is none.';
