-- 0014_signatures: what has other arguments now is dropped.
--
-- ensure_reader is told whether the dispatch that is to read must be there for sure.
--
-- Locks: what it drops.   Time: none.

drop function if exists ensure_reader(text);
