-- assert_lane: whoever reads or writes a thread's log while one of its dispatches is
-- claimed has to show that claim.
--
-- Returns the claimed dispatch, null when there is none. PM003 when the token is not
-- the current one of the thread's claim, or that is stale.
--
-- Locks: the claimed dispatch, for key share: it is not settled before this transaction
-- ends, and its lease is renewed meanwhile.
-- Time: none.
create or replace function assert_lane(thread_id text, claim_token uuid)
returns uuid
language plpgsql
volatile
set search_path from current
set enable_seqscan = off
set jit = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
    active dispatch;
begin
    select d.* into active
      from dispatch d
     where d.thread_id = assert_lane.thread_id and d.status = 'claimed'
       for key share;
    if not found then
        if assert_lane.claim_token is null then
            return null;
        end if;
    elsif active.claim_token = assert_lane.claim_token
      and active.dispatch_epoch >= current_dispatch_epoch(assert_lane.thread_id)
    then
        return active.dispatch_id;
    end if;
    raise exception 'the claim of thread % is lost', assert_lane.thread_id using
        errcode = 'PM003',
        detail = case
            when active.dispatch_id is null then 'no dispatch of it is claimed'
            when active.claim_token = assert_lane.claim_token then 'it was interrupted'
            when assert_lane.claim_token is null
                then format('dispatch %s is claimed, by %s; its token is needed',
                            active.dispatch_id, active.claimed_by)
            else format('dispatch %s is claimed under another token, by %s',
                        active.dispatch_id, active.claimed_by)
        end,
        hint = 'abandon the work; whoever holds the thread now does it again';
end
$$;

comment on function assert_lane(text, uuid) is
    'Internal: PM003 unless this token holds the thread''s lane, or nobody does and '
    'none is shown.';
