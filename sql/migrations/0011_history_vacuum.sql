-- 0011_history_vacuum: no vacuum for the sake of what was inserted into the history.
--
-- Whenever a slot had grown by a fifth, autovacuum would read what is new in it and
-- write each page of that once more, to mark it as visible to all. No query of ours
-- needs that: a slot is truncated when its time is up. What purge_terminal deletes row
-- by row is vacuumed as in any table, and so is what grows too old to stay unfrozen.
--
-- Locks: the slots of the history, share update exclusive.   Time: none.

do $$
begin
    for slot in 0 .. 5 loop
        execute format(
            'alter table dispatch_history_%s'
            ' set (autovacuum_vacuum_insert_threshold = -1)', slot);
    end loop;
end
$$;
