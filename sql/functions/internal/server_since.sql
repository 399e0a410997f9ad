-- server_since: since when the server has been up without a crash.
--
-- When one server process dies hard, the postmaster ends all sessions and starts over
-- without being restarted itself; what it loses then are the statistics, and they say
-- since when they have been counting. Somebody who resets those of the archiver by hand
-- makes reclaim_abandoned more patient for a moment, nothing else.
--
-- Locks: none.   Time: the server's.
create or replace function server_since()
returns timestamptz
language plpgsql
stable
set search_path from current
as $$
begin
    return greatest(
        pg_postmaster_start_time(), (select a.stats_reset from pg_stat_archiver a));
end
$$;

comment on function server_since() is
    'Internal: since when this server has been up, crashes of its processes included.';
