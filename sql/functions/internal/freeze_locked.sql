-- freeze_locked: a run reads these pending messages (choose_pending). The caller has
-- locked the thread.
--
-- Each is looked up by its key, never by a join (sql/README.md).
--
-- Locks: the pending messages.   Time: the database clock.
create or replace function freeze_locked(
    locked thread, message_ids text[], run_id uuid, dispatch_id uuid
)
returns setof message
language plpgsql
volatile
set search_path from current
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
    batch record;
begin
    if freeze_locked.message_ids = '{}' then
        return;
    end if;
    select array_agg(p.payload order by i.ord) as payloads,
           array_agg(p.created_at order by i.ord) as created_ats,
           array_agg(p.rank order by i.ord) as ranks
      into batch
      from unnest(freeze_locked.message_ids) with ordinality i (id, ord)
     cross join lateral (
         select m.payload, m.created_at, m.rank
           from pending_message m
          where m.thread_id = locked.thread_id and m.message_id = i.id
          limit 1
     ) p;
    delete from pending_message p
     where p.thread_id = locked.thread_id and p.rank = any (batch.ranks);
    return query
    select *
      from commit_messages(
               locked, freeze_locked.message_ids, batch.payloads, batch.created_ats,
               freeze_locked.run_id, freeze_locked.dispatch_id, false);
end
$$;

comment on function freeze_locked(thread, text[], uuid, uuid) is
    'Internal: commit these pending messages as read by a run.';
