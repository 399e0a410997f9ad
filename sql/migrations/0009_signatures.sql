-- 0009_signatures: what is no more is dropped.
--
-- index_reads has become dead_reads.
--
-- Locks: what it drops.   Time: none.

drop function if exists index_reads(regclass);
