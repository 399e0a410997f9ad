-- enqueue_many: hand in an array of dispatches, all or none, in its order.
--
-- enqueue_batch does it; here the rows are read back. What was just inserted has no
-- claim token to hide.
--
-- Locks: as enqueue.   Time: the database clock, one instant for all.
create or replace function enqueue_many(dispatches jsonb)
returns setof dispatch
language plpgsql
volatile
security definer
set search_path from current
set enable_seqscan = off
set jit = off
set enable_bitmapscan = off
set enable_mergejoin = off
set enable_hashjoin = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
    batch record;
begin
    select b.dispatch_ids, b.has_met into batch
      from enqueue_batch(enqueue_many.dispatches) b;
    if batch.has_met then
        return query
        -- what was met may have ended since
        select m.*
          from unnest(batch.dispatch_ids) with ordinality i (dispatch_id, ord)
         cross join lateral find_dispatch(i.dispatch_id) d
         cross join lateral masked(d) m
         order by i.ord;
    else
        return query
        select d.*
          from unnest(batch.dispatch_ids) with ordinality i (dispatch_id, ord)
         cross join lateral (
             select d.*
               from dispatch d
              where d.dispatch_id = i.dispatch_id
              limit 1
         ) d
         order by i.ord;
    end if;
end
$$;

comment on function enqueue_many(jsonb) is
    'Enqueue an array of objects with the argument names of enqueue as keys; all or '
    'nothing, in the array''s order. Errors as enqueue.';
