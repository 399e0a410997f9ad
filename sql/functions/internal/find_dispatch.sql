-- find_dispatch: one dispatch, live or terminal, as it stands.
--
-- Locks: none.   Time: none.
create or replace function find_dispatch(dispatch_id uuid)
returns setof dispatch
language plpgsql
stable
set search_path from current
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
begin
    return query
    select d.* from dispatch d where d.dispatch_id = find_dispatch.dispatch_id;
    if not found then
        return query
        select h.*
          from dispatch_history h
         where h.dispatch_id = find_dispatch.dispatch_id
         order by h.completed_event_id desc
         limit 1;
    end if;
end
$$;

comment on function find_dispatch(uuid) is
    'Internal: one dispatch, live or terminal, with its claim token.';
