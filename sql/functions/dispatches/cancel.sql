-- cancel: a queued dispatch is not to run.
--
-- Locks: the dispatch row, then one queued row of its lane.   Time: the database clock.
create or replace function cancel(dispatch_id uuid)
returns setof dispatch
language plpgsql
volatile
security definer
set search_path from current
as $$
#variable_conflict use_column
begin
    if cardinality(retire(array[cancel.dispatch_id], array[null::uuid], 'cancelled')) > 0 then
        return query select * from find_dispatch(cancel.dispatch_id);
    end if;
end
$$;

comment on function cancel(uuid) is 'Cancel a queued dispatch; no row when it is not queued (claimed, terminal, stale or unknown).';
