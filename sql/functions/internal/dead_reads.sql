-- dead_reads: how much this transaction has read of an index without finding a row, in
-- entries.
--
-- A page counts as four: where entries are known to be dead, the walk steps over them
-- without reading any, and pages of nothing else (a queue leaves them behind, until
-- vacuum comes) still cost about four times what an entry does (0.8 and 0.2
-- microseconds, measured on PostgreSQL 18).
--
-- Locks: none.   Time: none.
create or replace function dead_reads(index regclass)
returns bigint
language sql
volatile
parallel restricted
set search_path from current
as $$
    select pg_stat_get_xact_tuples_returned(index)
           - pg_stat_get_xact_tuples_fetched(index)
           + 4 * pg_stat_get_xact_blocks_fetched(index);
$$;

comment on function dead_reads(regclass) is
    'Internal: how much this transaction has read of an index without finding a row.';
