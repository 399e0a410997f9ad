-- is_session: whether a server process is there and is the one that began at that time.
--
-- An ordinary role sees the start of another role's session as null; then the number
-- alone decides.
--
-- Locks: none.   Time: none.
create or replace function is_session(backend_pid int, backend_start timestamptz)
returns boolean
language plpgsql
stable
set search_path from current
as $$
#variable_conflict use_column
begin
    return exists (
        select
          from pg_stat_activity a
         where a.pid = is_session.backend_pid
           and coalesce(a.backend_start = is_session.backend_start, true));
end
$$;

comment on function is_session(int, timestamptz) is
    'Internal: whether a session with this server process lasts.';
