-- ack_and_claim: hand in what has been consumed and take what comes next, in one call.
--
-- The same as ack_many and then claim, in one transaction: one round trip and one
-- commit for a consumer that works through a backlog, and no more than that for each
-- dispatch of a lane that has all the work: its next is woken by the ack and taken by
-- the claim.
--
-- Returns what was claimed. An ack that was refused (see ack_many) stands before it as
-- a row of nothing but its dispatch_id: what was claimed has a claim token.
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
as $$
#variable_conflict use_column
declare
    acked uuid[];
    refused dispatch;
begin
    acked := array(
        select a
          from ack_many(
                   ack_and_claim.dispatch_ids, ack_and_claim.claim_tokens,
                   ack_and_claim.responses) a);
    if cardinality(acked) < cardinality(ack_and_claim.dispatch_ids) then
        for refused.dispatch_id in
            select i.dispatch_id
              from unnest(ack_and_claim.dispatch_ids) i (dispatch_id)
             where i.dispatch_id <> all (acked)
        loop
            return next refused;
        end loop;
    end if;
    return query
    select *
      from claim(
               ack_and_claim.consumer_id, ack_and_claim.lease,
               ack_and_claim.max_dispatches, ack_and_claim.queues);
end
$$;

comment on function ack_and_claim(
    text, uuid[], uuid[], jsonb[], interval, int, text[]
) is
    'ack_many and claim in one call: returns what was claimed, and before it the ids '
    'whose ack was refused, in rows without a claim token.';
