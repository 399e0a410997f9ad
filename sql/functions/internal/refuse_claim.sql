-- refuse_claim: say what is wrong with the arguments of a claim.
create or replace function refuse_claim(consumer_id text, max_dispatches int)
returns void
language plpgsql
immutable
set search_path from current
as $$
begin
    if coalesce(consumer_id, '') = '' then
        raise exception 'consumer_id must not be empty' using errcode = 'PM005';
    elsif coalesce(max_dispatches, 0) < 1 then
        raise exception 'max_dispatches must be above zero' using
            errcode = 'PM005', detail = format('max_dispatches is %s', coalesce(max_dispatches::text, 'null'));
    else
        raise exception 'queues must not be null' using errcode = 'PM005';
    end if;
end
$$;

comment on function refuse_claim(text, int) is 'Internal: PM005 with what is wrong about a claim''s arguments.';
