-- head_waits: whether a strict lane begins with a dispatch that waits for its time, so
-- that nothing in it may go before that has come.
--
-- epoch: what is older does not count.
--
-- Locks: none.   Time: the database clock.
create or replace function head_waits(thread_id text, epoch bigint)
returns boolean
language plpgsql
stable
set search_path from current
set enable_seqscan = off
set jit = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
begin
    return (
        select s.available_at > clock()
               and (s.priority, s.seq) < (
                       select d.priority, d.seq
                         from dispatch d
                        where d.thread_id = head_waits.thread_id
                          and d.phase in ('ready', 'blocked')
                          and d.dispatch_epoch >= head_waits.epoch
                        order by d.priority, d.seq
                        limit 1)
          from dispatch s
         where s.thread_id = head_waits.thread_id
           and s.phase = 'scheduled'
           and s.dispatch_epoch >= head_waits.epoch
         order by s.priority, s.seq
         limit 1);
end
$$;

comment on function head_waits(text, bigint) is
    'Internal: whether a strict lane begins with a dispatch that waits for its time.';
