-- lost_claim: say why a write that shows this token is refused.
--
-- For calls that settle or record for one claim: PM004 for an unknown id, PM003
-- otherwise. The exception is meant to take the handler's own transaction down with it.
--
-- Locks: none.   Time: none.
create or replace function lost_claim(dispatch_id uuid, claim_token uuid)
returns void
language plpgsql
volatile
set search_path from current
as $$
#variable_conflict use_column
declare
    found_as dispatch;
    epoch bigint;
begin
    if lost_claim.dispatch_id is null then
        raise exception 'dispatch_id must not be null' using errcode = 'PM005';
    end if;
    select f.* into found_as from find_dispatch(lost_claim.dispatch_id) f;
    if not found then
        raise exception 'there is no dispatch %', lost_claim.dispatch_id using
            errcode = 'PM004',
            hint = 'purge_terminal takes terminal dispatches after a time';
    end if;

    select e.dispatch_epoch into epoch
      from thread_epoch e
     where e.thread_id = found_as.thread_id;
    if found_as.dispatch_epoch < epoch
       and (found_as.status = 'superseded'
            or found_as.claim_token = lost_claim.claim_token)
    then
        raise exception 'the claim of dispatch % is stale', found_as.dispatch_id using
            errcode = 'PM003',
            detail = format(
                'thread %s was interrupted: the dispatch is of epoch %s, the thread at '
                '%s',
                found_as.thread_id, found_as.dispatch_epoch, epoch),
            hint = 'abandon the work; supersede_claimed lets go of the lane';
    end if;
    raise exception 'the claim of dispatch % is lost', found_as.dispatch_id using
        errcode = 'PM003',
        detail = format(
            'it is %s%s', found_as.status,
            case
                when found_as.status = 'claimed'
                then ' under another token, by ' || found_as.claimed_by
            end),
        hint = 'abandon the work; whoever holds the dispatch now does it again';
end
$$;

comment on function lost_claim(uuid, uuid) is
    'Internal: PM003 or PM004, with why a write that shows this token is refused.';
