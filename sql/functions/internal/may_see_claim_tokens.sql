-- may_see_claim_tokens: a claim token is the right to settle, so only who may settle
-- gets to see it.
--
-- Locks: none.   Time: none.
create or replace function may_see_claim_tokens()
returns boolean
language plpgsql
stable
set search_path from current
as $$
declare
    owner constant oid := (
        select c.relowner from pg_class c where c.oid = 'dispatch'::regclass);
    consumers constant oid :=
        to_regrole(quote_ident(current_schema() || '_consumer'))::oid;
begin
    return pg_has_role(caller(), owner, 'member')
        or consumers is not null and pg_has_role(caller(), consumers, 'member');
end
$$;

comment on function may_see_claim_tokens() is
    'Internal: whether the caller is a consumer or the owner.';
