-- check_duration: a lease is above zero, a delay not below it; neither is for ever.
--
-- The bound keeps the sum with the present within what timestamps can express, clients'
-- ones included.
--
-- Locks: none.   Time: none.
create or replace function check_duration(
    argument text,
    duration interval,
    may_be_zero boolean
)
returns void
language plpgsql
immutable
set search_path from current
as $$
declare
    complaint text;
begin
    complaint := case
        when duration < interval '0' and may_be_zero then 'must not be negative'
        when duration is null and not may_be_zero
             or duration <= interval '0' and not may_be_zero then 'must be above zero'
        when duration > interval '1000 years' then 'must be at most 1000 years'
    end;
    if complaint is not null then
        raise exception '% %', argument, complaint using
            errcode = 'PM005',
            detail = format('%s is %s', argument, coalesce(duration::text, 'null'));
    end if;
end
$$;

comment on function check_duration(text, interval, boolean) is
    'Internal: PM005 for a lease that is not positive or a delay that is negative.';
