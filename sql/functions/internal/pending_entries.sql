-- pending_entries: pending messages of a thread as their readers see them.
create or replace function pending_entries(
    thread_id text, message_ids text[] default null
)
returns setof pending_entry
language plpgsql
stable
set search_path from current
as $$
#variable_conflict use_column
begin
    return query
    select p.message_id::text, p.nth, p.revision, p.payload, p.boundary::text,
           p.granularity::text, p.barrier, p.target_run_id, p.fallback_to_new_run,
           p.created_at, p.updated_at
      from (
          select p.*, row_number() over (order by p.rank) as nth
            from pending_message p
           where p.thread_id = pending_entries.thread_id
      ) p
     where pending_entries.message_ids is null
        or p.message_id = any (pending_entries.message_ids)
     order by p.nth;
end
$$;

comment on function pending_entries(text, text[]) is
    'Internal: a thread''s pending messages, or some of them, with their positions.';
