-- list_terminal_dispatches: pages of terminal dispatches, by dispatch_id.
--
-- Locks: none.   Time: none.
create or replace function list_terminal_dispatches(
    page_size int default 100,
    after uuid default null
)
returns setof dispatch
language plpgsql
stable
security definer
set search_path from current
as $$
begin
    return query
    select *
      from list_dispatches(
               statuses => '{acked,cancelled,superseded,dead_letter}',
               page_size => list_terminal_dispatches.page_size,
               after => list_terminal_dispatches.after);
end
$$;

comment on function list_terminal_dispatches(int, uuid) is
    'Terminal dispatches a page at a time, by dispatch_id.';
