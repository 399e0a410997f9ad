-- dismiss_consumer: a consumer says good-bye.
--
-- What it has settled last may have made work ready that it will not come for any more:
-- the bell is rung for the others.
--
-- Locks: its row of consumer.   Time: none.
create or replace function dismiss_consumer(consumer_id text)
returns void
language plpgsql
volatile
security definer
set search_path from current
as $$
#variable_conflict use_column
declare
    served text[];
begin
    delete from consumer c
     where c.consumer_id = dismiss_consumer.consumer_id
    returning c.queues into served;
    if found then
        perform ring(served);
    end if;
end
$$;

comment on function dismiss_consumer(text) is 'Forget a consumer that has stopped.';
