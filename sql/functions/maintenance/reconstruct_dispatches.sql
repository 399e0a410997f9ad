-- reconstruct_dispatches: prepared runs whose dispatch is missing get it back.
--
-- Under the id that was written down with the run, so that two processes which recover at
-- once make it once: for the second the id exists, which is as it should be. Examines one
-- page of prepared runs by run_id and returns them all, each with whether its dispatch
-- was made here; go on after the last run_id until there is none.
--
-- Time: the database clock.
create or replace function reconstruct_dispatches(
    page_size int default 256,
    after uuid default null,
    out prepared_run_id uuid,
    out reconstructed boolean
)
returns setof record
language plpgsql
volatile
security definer
set search_path from current
set enable_seqscan = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
    page uuid[];
begin
    perform check_page(reconstruct_dispatches.page_size);
    page := array(
        select r.run_id
          from run r
         where r.status = 'created'
           and (reconstruct_dispatches.after is null
                or r.run_id > reconstruct_dispatches.after)
         order by r.run_id
         limit reconstruct_dispatches.page_size);

    return query
    with missing as materialized (
        select r.run_id, r.dispatch_id, r.thread_id, r.kind, r.queue, r.priority
          from run r
         where r.run_id = any (page)
           and r.status = 'created'
           and not exists (
                   select from dispatch d where d.dispatch_id = r.dispatch_id)
           and not exists (
                   select from dispatch_history h where h.dispatch_id = r.dispatch_id)
    ), made as materialized (
        select m.run_id, revive_dispatch(m.run_id, m.dispatch_id, m.thread_id, m.kind,
                                         m.queue, m.priority) as new
          from missing m
    )
    select p.run_id, coalesce(m.new, false)
      from unnest(page) with ordinality p (run_id, ord)
      left join made m on m.run_id = p.run_id
     order by p.ord;
end
$$;

comment on function reconstruct_dispatches(int, uuid) is
    'Enqueue the missing dispatches of one page of prepared runs, under the ids recorded; '
    'returns the page, with whether each was made.';
