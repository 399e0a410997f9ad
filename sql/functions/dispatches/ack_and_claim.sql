-- ack_and_claim: hand in what has been consumed and take what comes next, in one call.
--
-- The same as ack_many and then claim, in one transaction: one round trip and one
-- commit for a consumer that works through a backlog, and no more than that for each
-- dispatch of a lane that has all the work.
--
-- Where there is room for the next of each lane that is freed, besides all that is
-- ready, they are handed over instead of being made ready to be found by the claim: who
-- comes before whom makes no difference to what is taken then. To see that, the claim
-- comes first and leaves room for them. If it finds more than it may take, they become
-- ready, and the rest of the room goes to whatever comes first, as ever.
--
-- Returns what was claimed. An ack that was refused (see ack_many) stands before it as
-- a row of nothing but its dispatch_id: what was claimed has a claim token. What was
-- handed over stands last, whatever its priority.
--
-- Locks: as ack_many, then as claim.   Time: the database clock.
create or replace function ack_and_claim(
    consumer_id text,
    dispatch_ids uuid[],
    claim_tokens uuid[],
    responses jsonb[] default null,
    lease interval default '30 s',
    max_dispatches int default 1,
    queues text[] default '{default}'
)
returns setof dispatch
language plpgsql
volatile
security definer
set search_path from current
set lock_timeout = '5s'
set enable_seqscan = off
set jit = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
    room int := coalesce(ack_and_claim.max_dispatches, 0);  -- which claim refuses
    gone record;
    acked uuid[];
    refused dispatch;
    any_next boolean;
    taken int;
begin
    perform check_arrays(
        'ack_many', ack_and_claim.dispatch_ids, ack_and_claim.claim_tokens,
        cardinality(ack_and_claim.responses));
    gone := retire(
        ack_and_claim.dispatch_ids, ack_and_claim.claim_tokens, 'acked',
        responses => ack_and_claim.responses, lanes => 'leave');
    acked := array(
        select s
          from settled(
                   'ack_many', ack_and_claim.dispatch_ids, ack_and_claim.claim_tokens,
                   gone.done) s);
    if cardinality(acked) < cardinality(ack_and_claim.dispatch_ids) then
        for refused.dispatch_id in
            select i.dispatch_id
              from unnest(ack_and_claim.dispatch_ids) i (dispatch_id)
             where i.dispatch_id <> all (acked)
        loop
            return next refused;
        end loop;
    end if;

    any_next := exists (
        select
          from unnest(gone.freed) t (thread_id)
         where (select true
                  from dispatch d
                 where d.thread_id = t.thread_id and d.phase in ('ready', 'blocked')
                 limit 1));
    if any_next
       and cardinality(gone.freed) < least(room, 1000)
       and current_setting('transaction_isolation') = 'read committed'
    then
        room := least(room, 1000) - cardinality(gone.freed);
        return query
        select *
          from claim(
                   ack_and_claim.consumer_id, ack_and_claim.lease, room,
                   ack_and_claim.queues);
        get diagnostics taken = row_count;
        if taken < room then
            return query
            select *
              from hand_over(
                       gone.freed, ack_and_claim.queues, ack_and_claim.consumer_id,
                       ack_and_claim.lease);
            return;
        end if;
        room := cardinality(gone.freed);
    end if;
    if any_next then
        perform wake_lanes(gone.freed, ack_and_claim.queues);
    end if;
    return query
    select *
      from claim(
               ack_and_claim.consumer_id, ack_and_claim.lease, room,
               ack_and_claim.queues);
end
$$;

comment on function ack_and_claim(
    text, uuid[], uuid[], jsonb[], interval, int, text[]
) is
    'ack_many and claim in one call: returns what was claimed, and before it the ids '
    'whose ack was refused, in rows without a claim token.';
