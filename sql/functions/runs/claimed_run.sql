-- claimed_run: the run that a claim carries.
--
-- What start_run has started under this token, also where it read nothing; no row when
-- the claim is over, among others because start_run found nothing to do and acked it.
--
-- Locks: none.   Time: none.
create or replace function claimed_run(dispatch_id uuid, claim_token uuid)
returns setof run
language plpgsql
stable
security definer
set search_path from current
as $$
#variable_conflict use_column
begin
    return query
    select r.*
      from run r
     where r.run_id = (
               select d.run_id
                 from dispatch d
                where d.dispatch_id = claimed_run.dispatch_id
                  and d.claim_token = claimed_run.claim_token);
end
$$;

comment on function claimed_run(uuid, uuid) is
    'The run that a claim carries; no row when the claim is over, or carries none.';
