-- assert_still: what assert_lane found is so still, now that the thread is locked.
--
-- Whoever waited for the thread may have waited for one who interrupted it, or while
-- somebody claimed a dispatch of it. Locks nothing: those who lock both take the
-- dispatch first.
--
-- Locks: none.   Time: none.
create or replace function assert_still(thread_id text, carrier uuid)
returns void
language plpgsql
volatile
set search_path from current
set enable_seqscan = off
set jit = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
begin
    if assert_still.carrier is null and exists (
           select
             from dispatch d
            where d.thread_id = assert_still.thread_id and d.status = 'claimed')
    then
        raise exception 'a dispatch of thread % was claimed meanwhile',
              assert_still.thread_id
        using errcode = 'PM003', detail = 'its token is needed';
    elsif exists (
           select
             from dispatch d
            where d.dispatch_id = assert_still.carrier
              and d.dispatch_epoch < current_dispatch_epoch(assert_still.thread_id))
    then
        raise exception 'the claim of thread % is lost', assert_still.thread_id using
            errcode = 'PM003',
            detail = 'it was interrupted',
            hint = 'abandon the work; whoever holds the thread now does it again';
    end if;
end
$$;

comment on function assert_still(text, uuid) is
    'Internal: PM003 when the thread was interrupted, or claimed, since assert_lane.';
