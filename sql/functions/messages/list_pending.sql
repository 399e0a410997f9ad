-- list_pending: what a thread has not read yet, in order.
--
-- Locks: none.   Time: none.
create or replace function list_pending(thread_id text)
returns setof pending_entry
language plpgsql
stable
security definer
set search_path from current
as $$
begin
    perform check_thread_id(list_pending.thread_id);
    return query select * from pending_entries(list_pending.thread_id);
end
$$;

comment on function list_pending(text) is
    'A thread''s pending messages in order, with position (from 1) and revision (from '
    '1).';
