-- extend_lease: keep a claimed dispatch alive. See extend_leases.
--
-- Locks: the dispatch row, never waiting.   Time: the database clock.
create or replace function extend_lease(
    dispatch_id uuid,
    claim_token uuid,
    lease interval
)
returns boolean
language plpgsql
volatile
security definer
set search_path from current
as $$
begin
    return exists (
        select
          from extend_leases(
                   array[extend_lease.dispatch_id], array[extend_lease.claim_token],
                   extend_lease.lease));
end
$$;

comment on function extend_lease(uuid, uuid, interval) is
    'Prolong a lease to at least this long from now; false when it is not claimed '
    'under this token or is stale.';
