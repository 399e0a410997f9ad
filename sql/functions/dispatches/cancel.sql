-- cancel: a queued dispatch is not to run.
--
-- One that an interrupt has overtaken becomes superseded instead, and there is no row.
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
declare
    cancelled record;
begin
    select r.done, r.single into cancelled
      from retire(array[cancel.dispatch_id], null, 'cancelled') r;
    if cardinality(cancelled.done) > 0 then
        return next cancelled.single;
    end if;
end
$$;

comment on function cancel(uuid) is
    'Cancel a queued dispatch; no row when it is not queued (claimed, terminal, stale '
    'or unknown).';
