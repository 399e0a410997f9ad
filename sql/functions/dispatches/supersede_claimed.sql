-- supersede_claimed: the holder of an interrupted dispatch lets go of the lane, once
-- its handler has ended.
--
-- Locks: the dispatch row, then one queued row of its lane.   Time: the database clock.
create or replace function supersede_claimed(
    dispatch_id uuid,
    claim_token uuid,
    reason text
)
returns setof dispatch
language plpgsql
volatile
security definer
set search_path from current
set lock_timeout = '5s'
as $$
#variable_conflict use_column
declare
    gone record;
begin
    select r.done, r.single into gone
      from retire(
               array[supersede_claimed.dispatch_id],
               array[supersede_claimed.claim_token],
               'superseded', errors => array[supersede_claimed.reason]) r;
    if cardinality(gone.done) > 0 then
        return next gone.single;
    else
        perform record_refusals(
            'supersede_claimed', array[supersede_claimed.dispatch_id],
            array[supersede_claimed.claim_token]);
    end if;
end
$$;

comment on function supersede_claimed(uuid, uuid, text) is
    'Settle a claimed dispatch as superseded; no row when it is not claimed under this '
    'token.';
