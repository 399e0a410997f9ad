-- crew_of: how many of the consumers that live serve a queue, and how many of these
-- have a handler for a kind, as far as is known.
--
-- Locks: none.   Time: the database clock (live_consumers).
create or replace function crew_of(
    queue text,
    kind text,
    out serving bigint,
    out handling bigint
)
returns record
language plpgsql
stable
set search_path from current
as $$
#variable_conflict use_column
begin
    select count(*),
           count(*) filter (where c.kinds is null or crew_of.kind = any (c.kinds))
      into serving, handling
      from live_consumers() c
     where c.queues is null or crew_of.queue = any (c.queues);
end
$$;

comment on function crew_of(text, text) is
    'Internal: how many consumers serve a queue, and how many of them handle a kind.';
