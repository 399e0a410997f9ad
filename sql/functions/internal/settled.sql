-- settled: the result of a _many call, with what it refused on record.
--
-- Locks: none.   Time: the database clock.
create or replace function settled(
    call text,
    dispatch_ids uuid[],
    claim_tokens uuid[],
    done uuid[]
)
returns setof uuid
language plpgsql
volatile
set search_path from current
as $$
#variable_conflict use_column
begin
    if cardinality(settled.done) < cardinality(settled.dispatch_ids) then
        perform record_refusals(
                    settled.call, array_agg(i.dispatch_id), array_agg(i.claim_token))
           from unnest(settled.dispatch_ids, settled.claim_tokens)
                i (dispatch_id, claim_token)
          where i.dispatch_id <> all (settled.done);
    end if;
    return query select unnest(settled.done);
end
$$;

comment on function settled(text, uuid[], uuid[], uuid[]) is
    'Internal: the ids that a _many call has settled; records the refusals of the '
    'others.';
