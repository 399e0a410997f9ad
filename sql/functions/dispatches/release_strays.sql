-- release_strays: give back what was claimed for a consumer by a call whose answer it
-- never got.
--
-- The connection may break after a claim was committed and before the consumer has
-- heard of it. Nobody would run those dispatches until their leases lapse, and each
-- would have lost an attempt. So a consumer whose claim has failed says when it was
-- last given something (last_claimed_at of that), and what it holds; what was claimed
-- in its name after that, and is not among these, goes back. A consumer makes one claim
-- at a time, or this would take from its others.
--
-- Locks: the dispatch rows (skip locked), then one queued row of each lane.
-- Time: the database clock.
create or replace function release_strays(
    consumer_id text,
    held_tokens uuid[],
    after timestamptz
)
returns setof uuid
language plpgsql
volatile
security definer
set search_path from current
as $$
#variable_conflict use_column
declare
    stray record;
begin
    perform check_consumer_id(release_strays.consumer_id);
    if release_strays.held_tokens is null or release_strays.after is null then
        raise exception 'held_tokens and after must not be null' using
            errcode = 'PM005';
    end if;
    select array_agg(s.dispatch_id) as ids, array_agg(s.claim_token) as tokens
      into stray
      from (
          select d.dispatch_id, d.claim_token
            from dispatch d
           where d.lease_until is not null
             and d.claimed_by = release_strays.consumer_id
             and d.claim_token <> all (release_strays.held_tokens)
             and d.last_claimed_at > release_strays.after
             for update skip locked) s;
    if stray.ids is not null then
        return query select release_many(stray.ids, stray.tokens);
    end if;
end
$$;

comment on function release_strays(text, uuid[], timestamptz) is
    'Give back what was claimed for a consumer after that time and is not among the '
    'tokens it holds: the answer of that claim was lost. Returns the ids.';
