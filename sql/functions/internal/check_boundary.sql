-- check_boundary: a boundary is one of five words.
--
-- Locks: none.   Time: none.
create or replace function check_boundary(boundary text)
returns void
language plpgsql
immutable
set search_path from current
as $$
begin
    if boundary is null or boundary not in (
           'interrupt', 'next_step', 'on_natural_end', 'new_run', 'resume_input')
    then
        raise exception 'unknown boundary %',
              coalesce(quote_literal(boundary), 'null')
        using
            errcode = 'PM005',
            hint = 'interrupt, next_step, on_natural_end, new_run or resume_input';
    end if;
end
$$;

comment on function check_boundary(text) is 'Internal: PM005 for an unknown boundary.';
