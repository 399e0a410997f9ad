-- promote_due: what has come due becomes ready.
--
-- A dispatch that becomes ready takes a fresh place at the end of its priority, so that ready work appears only at the end
-- of the ready index. Bounded: the rest comes due with the next claim.
--
-- Locks: the scheduled rows, never waiting.
create or replace function promote_due(queues text[], now timestamptz, max_dispatches int default 1000)
returns int
language plpgsql
volatile
set search_path from current
set enable_seqscan = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
    promoted int;
begin
    with due as materialized (
        select d.dispatch_id
          from dispatch d
         where d.phase = 'scheduled' and d.queue = any (promote_due.queues) and d.available_at <= promote_due.now
         order by d.available_at, d.seq
         limit promote_due.max_dispatches
           for update skip locked
    )
    update dispatch d
       set phase = 'ready', place = nextval('event_id_seq')
      from due
     where d.dispatch_id = due.dispatch_id;
    get diagnostics promoted = row_count;
    return promoted;
end
$$;

comment on function promote_due(text[], timestamptz, int) is 'Internal: make scheduled dispatches ready whose time has come.';
