-- check_duration: a lease is above zero; a delay is not below it.
create or replace function check_duration(argument text, duration interval, may_be_zero boolean)
returns void
language plpgsql
immutable
set search_path from current
as $$
begin
    if duration < interval '0' or duration = interval '0' and not may_be_zero or duration is null and not may_be_zero then
        raise exception '% must %', argument,
              case when may_be_zero then 'not be negative' else 'be above zero' end using
            errcode = 'PM005',
            detail = format('%s is %s', argument, coalesce(duration::text, 'null'));
    end if;
end
$$;

comment on function check_duration(text, interval, boolean) is 'Internal: PM005 for a lease that is not positive or a delay that is negative.';
