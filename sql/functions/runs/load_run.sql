-- load_run: a run as it stands.
--
-- Locks: none.   Time: none.
create or replace function load_run(run_id uuid)
returns setof run
language plpgsql
stable
security definer
set search_path from current
as $$
#variable_conflict use_column
begin
    return query select r.* from run r where r.run_id = load_run.run_id;
end
$$;

comment on function load_run(uuid) is 'One run; no row when there is none of that id.';
