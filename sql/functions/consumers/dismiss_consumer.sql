-- dismiss_consumer: a consumer says good-bye.
--
-- Locks: its row of consumer.
create or replace function dismiss_consumer(consumer_id text)
returns void
language plpgsql
volatile
security definer
set search_path from current
as $$
#variable_conflict use_column
begin
    delete from consumer c where c.consumer_id = dismiss_consumer.consumer_id;
end
$$;

comment on function dismiss_consumer(text) is 'Forget a consumer that has stopped.';
