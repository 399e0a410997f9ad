-- count_dispatches_by_status: a gauge.
--
-- The live statuses are counted exactly. A terminal one is counted as long as there are
-- at most ten thousand terminal dispatches, or of that status (but for acked, each has
-- an index to count in); beyond that it is what the planner expects, and says that it
-- is an estimate. Of acked ones that is what the size of the table leaves for them:
-- where nothing was analyzed yet, the planner would take any status for a rare one.
--
-- Volatile, because `explain` may not be run by a function that is not.
--
-- Locks: none.   Time: none.
create or replace function count_dispatches_by_status(
    out status text,
    out dispatches bigint,
    out estimated boolean
)
returns setof record
language plpgsql
volatile
security definer
set search_path from current
as $$
#variable_conflict use_column
declare
    exactly constant int := 10000;
    is_large constant boolean := (
        select count(*)
          from (select from dispatch_history limit exactly + 1) h) > exactly;
    rare constant text[] := '{cancelled,superseded,dead_letter}';
    counts bigint[] := '{}';
    guesses boolean[] := '{}';
    plan json;
begin
    -- two numbers from two indexes, where a count by status would read the table; in
    -- one statement, so that both are of the same moment
    return query
    select c.status, c.dispatches, false
      from (
          select (select count(*) from dispatch) as live,
                 (select count(*) from dispatch d where d.lease_until is not null)
                     as claimed
           offset 0
      ) n
     cross join lateral (
         values ('queued', n.live - n.claimed), ('claimed', n.claimed)
     ) c (status, dispatches);

    foreach status in array rare loop
        select count(*) into dispatches
          from (
              select
                from dispatch_history h
               where h.status = count_dispatches_by_status.status
                 and h.status <> 'acked'
               limit case when is_large then exactly + 1 end
          ) h;
        estimated := is_large and dispatches > exactly;
        if estimated then
            execute format(
                'explain (format json) select from dispatch_history where status = %L',
                status
            ) into plan;
            dispatches := greatest(dispatches, (plan #>> '{0,Plan,Plan Rows}')::bigint);
        end if;
        counts := counts || dispatches;
        guesses := guesses || estimated;
    end loop;

    status := 'acked';
    estimated := is_large;
    if is_large then
        execute 'explain (format json) select from dispatch_history' into plan;
        dispatches := greatest((plan #>> '{0,Plan,Plan Rows}')::bigint, exactly + 1)
            - (select sum(c) from unnest(counts) c);
        dispatches := greatest(dispatches, 0);
    else
        select count(*) into dispatches
          from dispatch_history h
         where h.status = 'acked';
    end if;
    return next;
    return query
    select r.status, r.dispatches, r.estimated
      from unnest(rare, counts, guesses) r (status, dispatches, estimated);
end
$$;

comment on function count_dispatches_by_status() is
    'How many dispatches there are in each status; terminal ones are estimates (and '
    'say so) beyond ten thousand.';
