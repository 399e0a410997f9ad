-- masked: a dispatch without its claim token, unless the caller may see it.
--
-- Locks: none.   Time: none.
create or replace function masked(d dispatch)
returns dispatch
language plpgsql
stable
set search_path from current
as $$
begin
    if d.claim_token is not null and not may_see_claim_tokens() then
        d.claim_token := null;
    end if;
    return d;
end
$$;

comment on function masked(dispatch) is
    'Internal: a dispatch as its reader may see it.';
