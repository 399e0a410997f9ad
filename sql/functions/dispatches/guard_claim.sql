-- guard_claim: the fence for what a handler itself writes.
--
-- Called inside the handler's own transaction, it takes that down with it when the
-- claim is lost or stale, and holds the claim until the transaction ends: nobody
-- reclaims or settles the dispatch in between. Its lease is renewed meanwhile, the run
-- may read and append on another connection; an interrupt does not wait for it, and
-- makes the next call of the handler fail.
--
-- Locks: the dispatch row, for key share, until the caller's transaction ends.
-- Time: none.
create or replace function guard_claim(dispatch_id uuid, claim_token uuid)
returns void
language plpgsql
volatile
security definer
set search_path from current
as $$
#variable_conflict use_column
declare
    held dispatch;
begin
    select d.* into held
      from dispatch d
     where d.dispatch_id = guard_claim.dispatch_id
       and d.claim_token = guard_claim.claim_token
       for key share;
    if not found or held.dispatch_epoch < (
        select e.dispatch_epoch from thread_epoch e where e.thread_id = held.thread_id)
    then
        perform lost_claim(guard_claim.dispatch_id, guard_claim.claim_token);
    end if;
end
$$;

comment on function guard_claim(uuid, uuid) is
    'Fail the caller''s transaction unless this token holds the dispatch: PM003 when '
    'the claim is lost or stale, PM004 unknown.';
