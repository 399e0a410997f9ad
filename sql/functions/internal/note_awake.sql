-- note_awake: a consumer that has got something waits no longer.
--
-- So that producers need not ring for it (ring, await_work). Claims that bring a single
-- one leave that out.
--
-- Locks: the row of the consumer, never waiting.   Time: none.
create or replace function note_awake(consumer_id text)
returns void
language plpgsql
volatile
set search_path from current
as $$
#variable_conflict use_column
begin
    update consumer c
       set waiting = false
      from (
          select me.consumer_id
            from consumer me
           where me.consumer_id = note_awake.consumer_id and me.waiting
             for update skip locked
      ) awake
     where c.consumer_id = awake.consumer_id;
end
$$;

comment on function note_awake(text) is
    'Internal: a consumer that has got something waits no longer.';
