-- check_arrays: the _many calls take arrays that belong together position by position.
create or replace function check_arrays(call text, dispatch_ids uuid[], claim_tokens uuid[], third int default null)
returns void
language plpgsql
immutable
set search_path from current
as $$
begin
    if cardinality(dispatch_ids) is distinct from cardinality(claim_tokens)
       or third is not null and third <> cardinality(dispatch_ids)
    then
        raise exception '%: the arrays differ in length', call using
            errcode = 'PM005',
            detail = format('dispatch_ids has %s, claim_tokens %s%s', coalesce(cardinality(dispatch_ids), 0),
                            coalesce(cardinality(claim_tokens), 0), ', the third ' || third);
    end if;
end
$$;

comment on function check_arrays(text, uuid[], uuid[], int) is 'Internal: PM005 when arrays that belong together differ in length.';
