-- backoff: how long to wait before the next attempt when the caller does not say.
--
-- 250 ms doubling with every failure, at most 30 s; half of it fixed, half random
-- ("equal jitter": Brooker, Exponential Backoff And Jitter, AWS Architecture Blog,
-- 2015), so that what failed together does not come back together.
--
-- Locks: none.   Time: none.
create or replace function backoff(failures int)
returns interval
language plpgsql
volatile
set search_path from current
as $$
begin
    return least(
        interval '250 ms' * power(2, least(greatest(failures, 1), 20) - 1),
        interval '30 s'
    ) * (0.5 + random() / 2);
end
$$;

comment on function backoff(int) is
    'Internal: delay before the next attempt after so many failures.';
