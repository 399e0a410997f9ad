-- next_lease_expiry: how long until the next lease lapses.
--
-- For the sweep, which need not look before that.
--
-- Locks: none.   Time: the database clock.
create or replace function next_lease_expiry()
returns interval
language plpgsql
stable
security definer
set search_path from current
set enable_seqscan = off
set jit = off
set enable_bitmapscan = off
as $$
#variable_conflict use_column
begin
    return (
        select d.lease_until
          from dispatch d
         where d.lease_until is not null
         order by d.lease_until
         limit 1
    ) - clock();
end
$$;

comment on function next_lease_expiry() is
    'How long from now until the next lease lapses (negative: one has); null when '
    'nothing is claimed.';
