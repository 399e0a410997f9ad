-- lost_sessions: announced consumers whose listening session is not there (any more).
--
-- pids are those that they announced: who has announced itself anew since then, has
-- another one. An ordinary role sees the start of another role's session as null; then
-- a process of that number in this database counts as the session. alive: those among
-- them that have other sessions, by application_name (where it may be seen, and the DSN
-- sets none): the process lives and has lost only the one.
--
-- One hash join, whatever the statistics say: a fleet of a thousand is looked at in a
-- few milliseconds.
--
-- Locks: none.   Time: none.
create or replace function lost_sessions(
    out consumer_ids text[], out pids int[], out alive text[]
)
returns record
language plpgsql
stable
set search_path from current
set enable_nestloop = off
as $$
#variable_conflict use_column
begin
    with session as materialized (
        select a.pid, a.backend_start, a.application_name
          from pg_stat_activity a
         where a.datid = (
                   select b.oid from pg_database b where b.datname = current_database())
    )
    select coalesce(array_agg(c.consumer_id), '{}'),
           coalesce(array_agg(c.backend_pid), '{}'),
           coalesce(
               array_agg(c.consumer_id) filter (
                   where left('pgmailbox:' || c.consumer_id, 63) = any (array(
                             select n.application_name from session n))),
               '{}')
      into consumer_ids, pids, alive
      from consumer c
      left join session s on s.pid = c.backend_pid
     where c.backend_pid is not null
       and (s.pid is null or s.backend_start <> c.backend_start);
end
$$;

comment on function lost_sessions() is
    'Internal: announced consumers whose session is gone, its process number, and '
    'those of them that have other sessions.';
