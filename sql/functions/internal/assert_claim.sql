-- assert_claim: the fence in front of a call that writes to a claim without ending it.
--
-- Locks the dispatch and returns it when the token is the current one and the epoch is
-- not stale. PM004 for an unknown id, PM003 otherwise (lost_claim).
--
-- Locks: the dispatch row, for update; waits at most for a claim that is just parking
-- rows behind it, or for whoever settles it.   Time: none.
create or replace function assert_claim(dispatch_id uuid, claim_token uuid)
returns dispatch
language plpgsql
volatile
set search_path from current
as $$
#variable_conflict use_column
declare
    held dispatch;
begin
    select d.* into held
      from dispatch d
     where d.dispatch_id = assert_claim.dispatch_id
       and d.claim_token = assert_claim.claim_token
       for update;
    if not found or held.dispatch_epoch < (
        select e.dispatch_epoch from thread_epoch e where e.thread_id = held.thread_id)
    then
        perform lost_claim(assert_claim.dispatch_id, assert_claim.claim_token);
    end if;
    return held;
end
$$;

comment on function assert_claim(uuid, uuid) is
    'Internal: lock and return a dispatch if this token holds it; PM003 or PM004 '
    'otherwise.';
