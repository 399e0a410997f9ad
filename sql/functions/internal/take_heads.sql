-- take_heads: the second half of a claim: take the heads of lanes that this transaction has locked, and dispatches without
-- a lane.
--
-- Runs with a snapshot taken after the lane locks were won, so that "nobody holds this lane" is still true when it commits.
-- The head is looked up by lane order among ready and blocked rows alike, whatever row led here, and then locked by its
-- key; if it is locked (being cancelled, say) the lane is passed over, never its second taken.
--
-- candidates: dispatch_ids[i] is taken as it is where thread_ids[i] is null; elsewhere it only led to the lane.
--
-- Locks: the dispatch rows, never waiting.   Time: the database clock.
create or replace function take_heads(
    dispatch_ids uuid[],
    thread_ids text[],
    places bigint[],
    queues text[],
    consumer_id text,
    lease interval
)
returns setof dispatch
language plpgsql
volatile
set search_path from current
set enable_seqscan = off
set enable_bitmapscan = off
set enable_mergejoin = off
set enable_hashjoin = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
    now constant timestamptz := clock();
begin
    return query
    with taken as (
        update dispatch d
           set status = 'claimed', phase = null, place = coalesce(d.place, pick.place),
               claim_token = gen_random_uuid(), claimed_by = take_heads.consumer_id,
               lease_until = now + take_heads.lease, last_claimed_by = take_heads.consumer_id, last_claimed_at = now,
               claimed_event_id = nextval('event_id_seq'), updated_at = now
          from (
              select d.dispatch_id, c.place
                from unnest(take_heads.dispatch_ids, take_heads.thread_ids, take_heads.places)
                     c (dispatch_id, thread_id, place)
               cross join lateral (
                   select c.dispatch_id where c.thread_id is null
                   union all
                   (select h.dispatch_id from lane_head(c.thread_id, take_heads.queues) h)
               ) head
                join dispatch d on d.dispatch_id = head.dispatch_id
               where d.phase in ('ready', 'blocked')
                 for update of d skip locked
          ) pick
         where d.dispatch_id = pick.dispatch_id
        returning d.*
    )
    select * from taken order by priority, place;
end
$$;

comment on function take_heads(uuid[], text[], bigint[], text[], text, interval) is
    'Internal: claim the heads of these locked lanes, and these dispatches without a lane.';
