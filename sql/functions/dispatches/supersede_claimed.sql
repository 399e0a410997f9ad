-- supersede_claimed: the holder of an interrupted dispatch lets go of the lane, once its handler has ended.
--
-- Locks: the dispatch row, then one queued row of its lane.   Time: the database clock.
create or replace function supersede_claimed(dispatch_id uuid, claim_token uuid, reason text)
returns setof dispatch
language plpgsql
volatile
security definer
set search_path from current
as $$
#variable_conflict use_column
begin
    if exists (select from settled(
        'supersede_claimed', array[supersede_claimed.dispatch_id], array[supersede_claimed.claim_token],
        retire(array[supersede_claimed.dispatch_id], known_tokens(array[supersede_claimed.claim_token]), 'superseded',
               errors => array[supersede_claimed.reason])))
    then
        return query select * from find_dispatch(supersede_claimed.dispatch_id);
    end if;
end
$$;

comment on function supersede_claimed(uuid, uuid, text) is
    'Settle a claimed dispatch as superseded; no row when it is not claimed under this token.';
