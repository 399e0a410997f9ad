-- check_detail: what is said of a run that waits is a JSON object, or nothing.
--
-- Locks: none.   Time: none.
create or replace function check_detail(detail jsonb)
returns void
language plpgsql
immutable
set search_path from current
as $$
begin
    if jsonb_typeof(coalesce(detail, '{}')) <> 'object' then
        raise exception 'detail must be a JSON object' using
            errcode = 'PM005', detail = format('it is %s', jsonb_typeof(detail));
    end if;
end
$$;

comment on function check_detail(jsonb) is
    'Internal: PM005 unless the detail of a waiting run is a JSON object, or null.';
