-- orphans_among: which of these threads have pending messages that nothing will read.
--
-- Neither a live dispatch nor a running run: reported, not started, since a person has
-- to say what is to become of them. Reads the queue as it stands at this moment, so
-- that a thread that was just woken is no false alarm.
--
-- Locks: none.   Time: none.
create or replace function orphans_among(thread_ids text[])
returns setof text
language plpgsql
stable
security definer
set search_path from current
set enable_seqscan = off
set jit = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
begin
    return query
    select t.thread_id
      from unnest(orphans_among.thread_ids) with ordinality t (thread_id, ord)
     where (select true
              from pending_message p
             where p.thread_id = t.thread_id
             limit 1)
       and not has_live_dispatch(t.thread_id)
       and (select true
              from run r
             where r.thread_id = t.thread_id and r.status = 'running'
             limit 1) is null
     order by t.ord;
end
$$;

comment on function orphans_among(text[]) is
    'Those of these threads that have pending messages and neither a live dispatch nor '
    'a running run.';
