-- caller: who really calls.
--
-- Inside a security definer function current_user is the owner. A role taken by SET
-- ROLE stands in the setting "role", which is 'none' when there was none.
--
-- Locks: none.   Time: none.
create or replace function caller()
returns name
language plpgsql
stable
set search_path from current
as $$
begin
    return coalesce(
        nullif(current_setting('role', true), 'none'), session_user::text)::name;
end
$$;

comment on function caller() is 'Internal: the role on whose behalf a function runs.';
