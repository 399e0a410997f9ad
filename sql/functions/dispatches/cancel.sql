-- cancel: a queued dispatch is not to run.
--
-- One that an interrupt has overtaken becomes superseded instead, and there is no row.
--
-- The messages that came with it are left unread, as are those whose own dispatches
-- were cancelled or failed for good before they read anything. All others were left to
-- this one to read, and get a reader; they are looked for among the first hundred. Not
-- so where it neither brought messages nor carries a run: a reader that ensure_reader
-- has made would come back for ever.
--
-- Locks: the dispatch row, then one queued row of its lane.   Time: the database clock.
create or replace function cancel(dispatch_id uuid)
returns setof dispatch
language plpgsql
volatile
security definer
set search_path from current
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
    cancelled record;
begin
    select r.done, r.single into cancelled
      from retire(array[cancel.dispatch_id], null, 'cancelled') r;
    if cardinality(cancelled.done) > 0 then
        perform ensure_reader((cancelled.single).thread_id)
           from (select bool_or(p.dispatch_id = cancel.dispatch_id) as brought_some,
                        bool_or(
                            p.dispatch_id is distinct from cancel.dispatch_id
                            and (select true
                                   from dispatch d
                                  where d.dispatch_id = p.dispatch_id
                                  limit 1) is null
                            and (select e.event <> 'reopened'
                                        and not exists (
                                            select
                                              from run r
                                             where r.run_id = e.run_id
                                               and r.started_at is not null)
                                   from event e
                                  where e.dispatch_id = p.dispatch_id
                                    and e.event in (
                                        'cancelled', 'dead_lettered', 'reopened')
                                  order by e.event_id desc
                                  limit 1) is not true) as leaves_others
                   from (select m.dispatch_id
                           from pending_message m
                          where m.thread_id = (cancelled.single).thread_id
                          order by m.rank
                          limit 100) p) unread
          where unread.leaves_others
            and (unread.brought_some or (cancelled.single).run_id is not null);
        return next cancelled.single;
    end if;
end
$$;

comment on function cancel(uuid) is
    'Cancel a queued dispatch; no row when it is not queued (claimed, terminal, stale '
    'or unknown).';
