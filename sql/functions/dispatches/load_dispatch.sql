-- load_dispatch: one dispatch, live or terminal.
--
-- Locks: none.   Time: none.
create or replace function load_dispatch(dispatch_id uuid)
returns setof dispatch
language plpgsql
stable
security definer
set search_path from current
as $$
#variable_conflict use_column
begin
    return query
    select m.*
      from find_dispatch(load_dispatch.dispatch_id) d
     cross join lateral masked(d) m;
end
$$;

comment on function load_dispatch(uuid) is
    'One dispatch by id, terminal ones until purge_terminal takes them; the claim '
    'token for consumers only.';
