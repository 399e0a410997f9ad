-- count_dispatches_by_status: a gauge.
--
-- The live statuses are counted exactly. Terminal ones are counted while there are at most ten thousand of them; beyond that
-- the rare statuses are still counted (they have an index of their own), and acked is what the planner expects, which follows
-- the size of the table: close, and nothing to a table of ten million.
create or replace function count_dispatches_by_status(
    out status text, out dispatches bigint, out estimated boolean
)
returns setof record
language plpgsql
stable
security definer
set search_path from current
as $$
#variable_conflict use_column
declare
    many constant boolean := (select count(*) from (select from dispatch_history limit 10001) h) > 10000;
    plan json;
begin
    return query
    select s.status, (select count(*) from dispatch d where d.status = s.status), false
      from unnest('{queued,claimed}'::text[]) s (status);
    return query
    select s.status, (select count(*) from dispatch_history h where h.status = s.status and h.status <> 'acked'), false
      from unnest('{cancelled,superseded,dead_letter}'::text[]) s (status);
    if many then
        execute 'explain (format json) select from dispatch_history where status = ''acked''' into plan;
        return query select 'acked', (plan #>> '{0,Plan,Plan Rows}')::bigint, true;
    else
        return query select 'acked', (select count(*) from dispatch_history h where h.status = 'acked'), false;
    end if;
end
$$;

comment on function count_dispatches_by_status() is
    'How many dispatches there are in each status; acked is an estimate (and says so) beyond ten thousand terminal ones.';
