-- pending_entries: pending messages of a thread as their readers see them: all of them,
-- or some, by id.
--
-- To number all costs as much as the queue is deep; whoever asks for some (deliver, the
-- edits) learns positions up to 100 and as many more as it asks for, but for no more
-- than 1,000 of those, and null beyond.
--
-- Locks: none.   Time: none.
create or replace function pending_entries(
    thread_id text, message_ids text[] default null
)
returns setof pending_entry
language plpgsql
stable
set search_path from current
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
begin
    if pending_entries.message_ids is null then
        return query
        select p.message_id::text, row_number() over (order by p.rank), p.revision,
               p.payload, p.boundary::text, p.granularity::text, p.barrier,
               p.target_run_id, p.fallback_to_new_run, p.created_at, p.updated_at
          from pending_message p
         where p.thread_id = pending_entries.thread_id
         order by p.rank;
        return;
    end if;
    return query
    with front as materialized (
        select array_agg(f.rank order by f.rank) as ranks
          from (select p.rank
                  from pending_message p
                 where p.thread_id = pending_entries.thread_id
                 order by p.rank
                 limit 100 + least(cardinality(pending_entries.message_ids), 1000)) f
    )
    select p.message_id::text, array_position(f.ranks, p.rank)::bigint, p.revision,
           p.payload, p.boundary::text, p.granularity::text, p.barrier, p.target_run_id,
           p.fallback_to_new_run, p.created_at, p.updated_at
      from front f
     cross join unnest(pending_entries.message_ids) i (id)
     cross join lateral (
         select m.*
           from pending_message m
          where m.thread_id = pending_entries.thread_id and m.message_id = i.id
          limit 1
     ) p
     order by p.rank;
end
$$;

comment on function pending_entries(text, text[]) is
    'Internal: a thread''s pending messages, or some of them, with their positions.';
