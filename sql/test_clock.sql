-- clock (for tests): the database's clock, shifted by the setting
-- pgmailbox.clock_offset.
--
-- Installed in place of functions/clock/clock.sql by `pgmailbox migrate --test-clock`,
-- so that a test can let a lease expire without waiting for it; a plain migration puts
-- the real one back. The setting holds an interval. After a `set local` has ended it is
-- the empty string, not null.
--
-- Locks: none.   Time: this is the clock.

create or replace function clock() returns timestamptz
language plpgsql stable
set search_path from current
as $$
begin
    return clock_timestamp() + coalesce(
        nullif(current_setting('pgmailbox.clock_offset', true), '')::interval,
        interval '0'
    );
end
$$;

comment on function clock() is
    'The only clock that pgmailbox asks. TEST VERSION: adds the setting '
    'pgmailbox.clock_offset.';
