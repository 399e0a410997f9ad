-- refuse_claim: say what is wrong with the arguments of a claim.
--
-- Apart, so that a good claim pays for one expression only.
--
-- Locks: none.   Time: none.
create or replace function refuse_claim(
    consumer_id text,
    lease interval,
    max_dispatches int,
    queues text[]
)
returns void
language plpgsql
immutable
set search_path from current
as $$
begin
    perform check_consumer_id(consumer_id);
    perform check_duration('lease', lease, false);
    perform check_count('max_dispatches', max_dispatches);
    if queues is null then
        raise exception 'queues must not be null' using errcode = 'PM005';
    end if;
end
$$;

comment on function refuse_claim(text, interval, int, text[]) is
    'Internal: PM005 with what is wrong about a claim''s arguments.';
