-- assert_claim: the fence in front of every call that settles or records for one claim.
--
-- Locks the dispatch for update and returns it when the token is the current one and the epoch is not stale. Raises PM004
-- for an unknown id, PM003 otherwise; the exception is meant to take the handler's own transaction down with it.
--
-- Locks: the dispatch row; waits at most for a claim that is just parking rows behind it.
create or replace function assert_claim(dispatch_id uuid, claim_token uuid)
returns dispatch
language plpgsql
volatile
set search_path from current
as $$
#variable_conflict use_column
declare
    held dispatch;
    epoch bigint;
begin
    select d.* into held
      from dispatch d
     where d.dispatch_id = assert_claim.dispatch_id and d.claim_token = assert_claim.claim_token
       for update;
    if found then
        select e.dispatch_epoch into epoch from thread_epoch e where e.thread_id = held.thread_id;
        if held.dispatch_epoch >= coalesce(epoch, 0) then
            return held;
        end if;
        raise exception 'the claim of dispatch % is stale', held.dispatch_id using
            errcode = 'PM003',
            detail = format('thread %s was interrupted: the dispatch is of epoch %s, the thread at %s',
                            held.thread_id, held.dispatch_epoch, epoch),
            hint = 'abandon the work; supersede_claimed lets go of the lane';
    end if;

    select d.* into held from dispatch d where d.dispatch_id = assert_claim.dispatch_id;
    if not found then
        select h.* into held from dispatch_history h where h.dispatch_id = assert_claim.dispatch_id limit 1;
    end if;
    if held.dispatch_id is null then
        raise exception 'there is no dispatch %', assert_claim.dispatch_id using
            errcode = 'PM004',
            hint = 'terminal dispatches are kept for a limited time (purge_terminal)';
    end if;
    raise exception 'the claim of dispatch % is lost', held.dispatch_id using
        errcode = 'PM003',
        detail = format('it is %s%s', held.status,
                        case when held.status = 'claimed' then ' under another token, by ' || held.claimed_by else '' end),
        hint = 'abandon the work; whoever holds the dispatch now does it again';
end
$$;

comment on function assert_claim(uuid, uuid) is 'Internal: lock and return a dispatch if this token holds it; PM003 or PM004 otherwise.';
