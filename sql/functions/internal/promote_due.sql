-- promote_due: what has come due becomes ready, in whatever queue it is.
--
-- In whatever queue, because a lane's head may be in another queue than the one that is
-- claimed from, and must be seen to be there. A dispatch that becomes ready takes a
-- fresh place at the end of its priority, so that ready work appears only at the end of
-- the ready index. Bounded: a claim that finds nothing calls it again.
--
-- served: the queues that the caller claims from; for others the bell is rung. Returns
-- how many became ready.
--
-- Locks: the scheduled rows, never waiting.   Time: the database clock.
create or replace function promote_due(served text[], max_dispatches int default 1000)
returns int
language plpgsql
volatile
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
    now constant timestamptz := clock();
    promoted record;
begin
    with due as materialized (
        select d.ctid as tid
          from dispatch d
         where d.phase = 'scheduled' and d.available_at <= now
         order by d.available_at, d.seq
         limit promote_due.max_dispatches
           for update skip locked
    ), placed as materialized (
        -- who has been due for longest stands first
        select d.tid, nextval('event_id_seq') as place from due d
    ), ready as (
        update dispatch d
           set phase = 'ready', place = p.place
          from placed p
         where d.ctid = p.tid
        returning d.queue
    )
    select count(*)::int as rows,
           array_agg(distinct r.queue::text)
               filter (where r.queue <> all (promote_due.served)) as unserved
      into promoted
      from ready r;
    if promoted.unserved is not null then
        perform ring(promoted.unserved);
    end if;
    return promoted.rows;
end
$$;

comment on function promote_due(text[], int) is
    'Internal: make scheduled dispatches ready whose time has come.';
