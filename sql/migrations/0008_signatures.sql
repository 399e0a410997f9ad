-- 0008_signatures: what returns something else, or is no more, is dropped first.
--
-- take_heads has become find_heads and take.
--
-- Locks: what it drops, and consumer.   Time: none.

drop function if exists await_work(text, text[]);
drop function if exists take_heads(
    tid[], text[], text[], text, interval, int, boolean
);

comment on column consumer.waiting is
    'Whether producers notify it: since it has said that it sleeps, it has got no more '
    'than a single dispatch.';
