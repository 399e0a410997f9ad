-- reconstruct_dispatches: prepared runs whose dispatch is missing get it back.
--
-- Under the id that was written down with the run, so that two processes which recover
-- at once make it once: for the second the id exists, which is as it should be.
-- Examines one page of prepared runs by run_id and returns them all, each with whether
-- its dispatch was made here (null: somebody is just making it); go on after the last
-- run_id until there is none. A run that somebody has locked is being carried on, or
-- given its dispatch, and is passed over.
--
-- Locks: rows of run, never waiting, and the ids that it makes.   Time: the database
-- clock.
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
set jit = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
    -- no "or": a page begins where the last one ended, in the index
    first constant uuid := coalesce(
        reconstruct_dispatches.after, '00000000-0000-0000-0000-000000000000');
    page uuid[];
begin
    perform check_page(reconstruct_dispatches.page_size);
    page := array(
        select r.run_id
          from run r
         where r.status = 'created'
           and r.run_id >= first
           and r.run_id is distinct from reconstruct_dispatches.after
         order by r.run_id
         limit reconstruct_dispatches.page_size);

    -- one that was made by hand, without an id: it is written down before it is used
    update run r
       set dispatch_id = new_id(), updated_at = clock()
     where r.run_id = any (array(
               select u.run_id
                 from run u
                where u.run_id = any (page)
                  and u.status = 'created'
                  and u.dispatch_id is null
                  for no key update skip locked));

    return query
    with missing as materialized (
        select r.run_id, r.dispatch_id, r.thread_id, r.kind, r.queue, r.priority
          from run r
         where r.run_id = any (page)
           and r.status = 'created'
           and r.dispatch_id is not null
           and (select true
                  from dispatch d
                 where d.dispatch_id = r.dispatch_id
                 limit 1) is null
           and (select true
                  from dispatch_history h
                 where h.dispatch_id = r.dispatch_id
                 limit 1) is null
         order by r.run_id
           for no key update skip locked
    ), made as materialized (
        select m.run_id, revive_dispatch(m.run_id, m.dispatch_id, m.thread_id, m.kind,
                                         m.queue, m.priority) as new
          from missing m
    )
    select p.run_id,
           case
               when p.run_id in (select m.run_id from made m where m.new is null)
               then null
               else p.run_id in (select m.run_id from made m where m.new)
           end
      from unnest(page) with ordinality p (run_id, ord)
     order by p.ord;
end
$$;

comment on function reconstruct_dispatches(int, uuid) is
    'Enqueue the missing dispatches of one page of prepared runs, under the ids '
    'recorded; returns the page, with whether each was made.';
