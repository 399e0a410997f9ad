-- dead_letter: failed for good, whatever attempts are left. The attempt counts.
--
-- Locks: the dispatch row, then one queued row of its lane.   Time: the database clock.
create or replace function dead_letter(dispatch_id uuid, claim_token uuid, error text)
returns dispatch
language plpgsql
volatile
security definer
set search_path from current
as $$
#variable_conflict use_column
declare
    dead record;
begin
    select r.done, r.single into dead
      from retire(
               array[dead_letter.dispatch_id], array[dead_letter.claim_token],
               'dead_letter', errors => array[dead_letter.error],
               attempts_used => 1) r;
    if cardinality(dead.done) = 0 then
        perform lost_claim(dead_letter.dispatch_id, dead_letter.claim_token);
    end if;
    return dead.single;
end
$$;

comment on function dead_letter(uuid, uuid, text) is
    'Settle a claimed dispatch as failed for good. PM003, PM004 as ack.';
