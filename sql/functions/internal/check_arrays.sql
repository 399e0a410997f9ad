-- check_arrays: the _many calls take arrays that belong together position by position.
--
-- third: the length of the third array, null where there is none.
--
-- Locks: none.   Time: none.
create or replace function check_arrays(
    call text,
    dispatch_ids uuid[],
    claim_tokens uuid[],
    third int default null
)
returns void
language plpgsql
immutable
set search_path from current
as $$
begin
    if dispatch_ids is null or claim_tokens is null then
        raise exception '%: % must not be null', call,
              case when dispatch_ids is null then 'dispatch_ids' else 'claim_tokens' end
        using errcode = 'PM005';
    elsif cardinality(dispatch_ids) <> cardinality(claim_tokens)
          or third <> cardinality(dispatch_ids)
    then
        raise exception '%: the arrays differ in length', call using
            errcode = 'PM005',
            detail = format(
                'dispatch_ids has %s, claim_tokens %s%s', cardinality(dispatch_ids),
                cardinality(claim_tokens), ', the third ' || third);
    end if;
end
$$;

comment on function check_arrays(text, uuid[], uuid[], int) is
    'Internal: PM005 when arrays that belong together are null or differ in length.';
