-- pay_lane_wakes: settle what wake_lanes had to leave.
--
-- Takes the debts and wakes their lanes; what still cannot be woken is written down again by wake_lanes itself.
--
-- Locks: rows of lane_wake, never waiting.
create or replace function pay_lane_wakes()
returns void
language plpgsql
volatile
set search_path from current
as $$
#variable_conflict use_column
declare
    owed text[];
begin
    with debt as (
        select w.ctid as tid from lane_wake w limit 1000 for update skip locked
    ), paid as (
        delete from lane_wake w using debt where w.ctid = debt.tid returning w.thread_id
    )
    select array_agg(distinct thread_id) into owed from paid;
    if owed is not null then
        perform wake_lanes(owed);
    end if;
end
$$;

comment on function pay_lane_wakes() is 'Internal: wake the lanes that a transaction had to leave unwoken.';
