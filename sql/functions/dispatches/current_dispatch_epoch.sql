-- current_dispatch_epoch: how often a thread has been interrupted.
--
-- Locks: none.   Time: none.
create or replace function current_dispatch_epoch(thread_id text)
returns bigint
language plpgsql
stable
security definer
set search_path from current
as $$
#variable_conflict use_column
begin
    perform check_thread_id(current_dispatch_epoch.thread_id);
    return coalesce((
        select e.dispatch_epoch
          from thread_epoch e
         where e.thread_id = current_dispatch_epoch.thread_id), 0);
end
$$;

comment on function current_dispatch_epoch(text) is
    'The thread''s dispatch epoch; 0 for a thread never interrupted.';
