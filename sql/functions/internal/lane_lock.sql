-- lane_lock: try to be the only one that is about to claim in this lane, until the end
-- of the transaction.
--
-- Never waits. It is what makes "look whether the lane is free, then take its head"
-- safe without waiting on the unique index for another claimer's commit: everyone who
-- is about to claim in a lane holds this lock, and looks again with a fresh snapshot
-- once it has it. The key is 64 bits over the thread's name, seeded with the identity
-- of this schema's table, so that schemas do not meet. Two names that collided would
-- only pass each other over for a moment.
--
-- Locks: an advisory lock of the transaction, tried.   Time: none.
create or replace function lane_lock(thread_id text)
returns boolean
language plpgsql
volatile
set search_path from current
as $$
begin
    return pg_try_advisory_xact_lock(
        hashtextextended(lane_lock.thread_id, 'dispatch'::regclass::oid::bigint));
end
$$;

comment on function lane_lock(text) is
    'Internal: try to become the only claimer of a lane until the end of the '
    'transaction.';
