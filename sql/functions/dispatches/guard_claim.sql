-- guard_claim: the fence for what a handler itself writes.
--
-- Called inside the handler's own transaction, it takes that down with it when the claim
-- is lost or stale, and holds the claim until the transaction ends: nobody reclaims the
-- dispatch in between. Renewals pass by and count it as held; an interrupt does not
-- wait for it, and makes the next call of the handler fail.
--
-- Locks: the dispatch row, until the caller's transaction ends.   Time: none.
create or replace function guard_claim(dispatch_id uuid, claim_token uuid)
returns void
language plpgsql
volatile
security definer
set search_path from current
as $$
begin
    perform assert_claim(guard_claim.dispatch_id, guard_claim.claim_token);
end
$$;

comment on function guard_claim(uuid, uuid) is
    'Fail the caller''s transaction unless this token holds the dispatch: PM003 when the '
    'claim is lost or stale, PM004 unknown.';
