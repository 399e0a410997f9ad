-- 0012_signatures: what has other arguments now is dropped.
--
-- make_room is given the messages that are to come in, not only how many they are.
--
-- Locks: what it drops.   Time: none.

drop function if exists make_room(text, int);
