-- count_dispatches_by_status: a gauge.
--
-- The live statuses are counted exactly. A terminal one is counted as long as there are
-- at most ten thousand terminal dispatches, or of that status (but for acked, each has
-- an index to count in). Beyond that it is an estimate, and says so: of acked ones by
-- the size of the table, of the others by what the planner expects.
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
    total bigint;
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
        -- by how many there are on the first hundred pages of each slot; not cached, or
        -- a plan from when there was one page would stay
        execute $query$
            select sum(s.pages)
                   * (select count(*) from dispatch_history h where h.ctid < '(100,0)')
                   / sum(least(s.pages, 100))
              from (
                  select pg_relation_size(i.inhrelid)
                         / current_setting('block_size')::int as pages
                    from pg_inherits i
                   where i.inhparent = 'dispatch_history'::regclass
              ) s
        $query$ into total;
        -- which may have been cleaned up already
        execute $query$
            explain (format json) select from dispatch_history where status = 'acked'
        $query$ into plan;
        dispatches := greatest(
            greatest(total, exactly + 1) - (select sum(c) from unnest(counts) c),
            (plan #>> '{0,Plan,Plan Rows}')::bigint);
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
