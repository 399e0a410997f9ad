-- known_tokens: a null among claim tokens matches no claim.
--
-- To retire, a null token means "queued": a caller who shows none must not get at a queued dispatch that way.
create or replace function known_tokens(claim_tokens uuid[])
returns uuid[]
language plpgsql
immutable
set search_path from current
as $$
begin
    return array_replace(claim_tokens, null, '00000000-0000-0000-0000-000000000000');
end
$$;

comment on function known_tokens(uuid[]) is 'Internal: claim tokens with the nulls replaced by one that matches nothing.';
