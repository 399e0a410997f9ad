-- may_see_claim_tokens: a claim token is the right to settle, so only who may settle gets to see it.
create or replace function may_see_claim_tokens()
returns boolean
language plpgsql
stable
set search_path from current
as $$
declare
    consumers constant regrole := to_regrole(quote_ident(current_schema() || '_consumer'));
begin
    return pg_has_role(caller(), (select c.relowner from pg_class c where c.oid = 'dispatch'::regclass), 'member')
        or consumers is not null and pg_has_role(caller(), consumers::oid, 'member');
end
$$;

comment on function may_see_claim_tokens() is 'Internal: whether the caller is a consumer or the owner.';
