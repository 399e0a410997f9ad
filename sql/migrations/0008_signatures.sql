-- 0008_signatures: what returns something else, or is no more, is dropped first.
--
-- take_heads has become find_heads and take.
--
-- Locks: what it drops.   Time: none.

drop function if exists await_work(text, text[]);
drop function if exists take_heads(
    tid[], text[], text[], text, interval, int, boolean
);
