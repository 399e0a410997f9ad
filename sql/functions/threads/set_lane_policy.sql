-- set_lane_policy: what a lane does when its head has to wait or has failed.
--
-- skip: a dispatch that waits for its time does not hold up the ones behind it. strict:
-- it does. halt: strict, and a dead letter stops the lane until resume_thread or
-- retry_dispatch.
--
-- Locks: the thread's row of lane, for update (park relies on it), then one queued row.
-- Time: the database clock.
create or replace function set_lane_policy(thread_id text, policy text)
returns void
language plpgsql
volatile
security definer
set search_path from current
as $$
#variable_conflict use_column
begin
    perform check_thread_id(set_lane_policy.thread_id);
    if set_lane_policy.policy is null
       or set_lane_policy.policy not in ('skip', 'strict', 'halt')
    then
        raise exception 'unknown lane policy %',
              coalesce(quote_literal(set_lane_policy.policy), 'null') using
            errcode = 'PM005', hint = 'skip, strict or halt';
    end if;
    perform lock_lane(set_lane_policy.thread_id);
    update lane l
       set policy = set_lane_policy.policy, updated_at = clock()
     where l.thread_id = set_lane_policy.thread_id;
    perform wake_lanes(array[set_lane_policy.thread_id]);
end
$$;

comment on function set_lane_policy(text, text) is
    'Set what a thread''s lane does when its head waits or has failed: skip (default), '
    'strict, halt. PM005 for another word.';
