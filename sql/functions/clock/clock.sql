-- clock: the only clock.
--
-- clock_timestamp(), because now() stands still in a transaction: a lease taken at the
-- end of a long transaction must not begin at its start. Stable, so that an index
-- condition may use it; whoever needs one instant twice reads it once into a variable.
-- For tests alone, `pgmailbox migrate --test-clock` puts another function in this
-- place.
--
-- Locks: none.   Time: this is the clock.
create or replace function clock()
returns timestamptz
language plpgsql
stable
set search_path from current
as $$
begin
    return clock_timestamp();
end
$$;

comment on function clock() is
    'The time by which everything in this schema is decided.';
