-- promote_rounds: what has come due is made ready, in so many rounds at most; tells
-- whether more is due.
--
-- For half a second at most: the most urgent may be the last to have come due, but who
-- claims waits. What is left then, or is just being made ready by another, find_heads
-- knows of.
--
-- Locks: scheduled rows, never waiting (promote_due).   Time: the database clock.
create or replace function promote_rounds(queues text[], rounds int)
returns boolean
language plpgsql
volatile
set search_path from current
set enable_seqscan = off
set jit = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
    begun constant timestamptz := clock();
    overdue boolean := true;
    promoted int;
begin
    for n in 1 .. promote_rounds.rounds loop
        promoted := promote_due(promote_rounds.queues);
        overdue := exists (
            select
              from dispatch d
             where d.phase = 'scheduled' and d.available_at <= clock());
        exit when promoted = 0 or not overdue
            or clock() - begun > interval '500 ms';
    end loop;
    return overdue;
end
$$;

comment on function promote_rounds(text[], int) is
    'Internal: make ready what has come due, in at most so many rounds; whether more '
    'is due.';
