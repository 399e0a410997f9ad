-- ack: consumed.
--
-- Accepted while the token is the current one, even when the lease has just lapsed:
-- nobody else can be running it. Raises otherwise, so that an ack inside the handler's
-- own transaction takes the handler's writes down with it.
--
-- Locks: the dispatch row, then one queued row of its lane.   Time: the database clock.
create or replace function ack(
    dispatch_id uuid,
    claim_token uuid,
    response jsonb default null
)
returns dispatch
language plpgsql
volatile
security definer
set search_path from current
as $$
#variable_conflict use_column
declare
    acked record;
begin
    select r.done, r.single into acked
      from retire(
               array[ack.dispatch_id], array[ack.claim_token], 'acked',
               responses => array[ack.response]) r;
    if cardinality(acked.done) = 0 then
        perform lost_claim(ack.dispatch_id, ack.claim_token);
    end if;
    return acked.single;
end
$$;

comment on function ack(uuid, uuid, jsonb) is
    'Settle a claimed dispatch as consumed. PM003 when the claim is lost or stale, '
    'PM004 when there is no such dispatch.';
