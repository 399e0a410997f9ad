-- check_delivery: how messages are to be delivered makes sense.
--
-- Locks: none.   Time: none.
create or replace function check_delivery(
    boundary text,
    granularity text,
    barrier boolean,
    target_run_id uuid,
    fallback_to_new_run boolean
)
returns void
language plpgsql
immutable
set search_path from current
as $$
begin
    perform check_boundary(boundary);
    if granularity is null or granularity not in ('batch', 'one') then
        raise exception 'unknown granularity %',
              coalesce(quote_literal(granularity), 'null')
        using errcode = 'PM005', hint = 'batch or one';
    elsif barrier is null or fallback_to_new_run is null then
        raise exception '% must not be null',
              case when barrier is null then 'barrier' else 'fallback_to_new_run' end
        using errcode = 'PM005';
    elsif boundary = 'resume_input' and target_run_id is null then
        raise exception 'resume_input needs a target_run_id' using
            errcode = 'PM005',
            hint = 'it is input for one waiting run';
    end if;
end
$$;

comment on function check_delivery(text, text, boolean, uuid, boolean) is
    'Internal: PM005 when messages cannot be delivered like this.';
