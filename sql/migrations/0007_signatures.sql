-- 0007_signatures: what gets another argument list is dropped first.
--
-- `create or replace` would make an overload of it, after which calls are ambiguous.
--
-- Locks: what it drops.   Time: none.

drop function if exists reclaim_abandoned(interval, int);
drop function if exists take_heads(
    tid[], uuid[], text[], text[], text, interval, int, boolean
);
drop function if exists remember_front(text[], int, bigint, uuid[], bigint);
drop function if exists retire(
    uuid[], uuid[], text, text[], jsonb[], int, boolean, text, boolean
);
