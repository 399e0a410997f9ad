-- ack_claimed: ack the dispatch that carried a run, or that found none to carry.
--
-- PM003 where an interrupt has come between: retire would make it superseded, and the
-- caller would hear nothing of it.
--
-- Locks: as retire.   Time: the database clock.
create or replace function ack_claimed(held dispatch)
returns void
language plpgsql
volatile
set search_path from current
as $$
begin
    if cardinality(
           (retire(array[held.dispatch_id], array[held.claim_token], 'acked')).done) = 0
    then
        perform lost_claim(held.dispatch_id, held.claim_token);
    end if;
end
$$;

comment on function ack_claimed(dispatch) is
    'Internal: ack a dispatch whose claim was asserted; PM003 when it is stale by now.';
