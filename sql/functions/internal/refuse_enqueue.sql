-- refuse_enqueue: say what is wrong with the arguments of an enqueue.
--
-- Apart, so that a good enqueue pays for one expression only.
create or replace function refuse_enqueue(
    thread_id text,
    payload jsonb,
    kind text,
    queue text,
    priority int,
    dedupe_key text,
    available_at timestamptz,
    delay interval,
    max_attempts int,
    on_duplicate text
)
returns void
language plpgsql
immutable
set search_path from current
as $$
declare
    complaint text;
begin
    if thread_id is not null then
        perform check_thread_id(thread_id);
    end if;
    complaint := case
        when payload is null then 'payload must not be null'
        when coalesce(kind, '') = '' then 'kind must not be empty'
        when coalesce(queue, '') = '' then 'queue must not be empty'
        when dedupe_key = '' then 'dedupe_key must not be empty'
        when coalesce(priority, -1) not between 0 and 255
            then format('priority must be between 0 and 255, not %s', coalesce(priority::text, 'null'))
        when coalesce(max_attempts, 0) < 1
            then format('max_attempts must be at least 1, not %s', coalesce(max_attempts::text, 'null'))
        when delay is not null and available_at is not null then 'give available_at or delay, not both'
        when delay < interval '0' then format('delay must not be negative, not %s', delay)
        else format('unknown on_duplicate %s: raise or return', coalesce(quote_literal(on_duplicate), 'null'))
    end;
    raise exception '%', complaint using errcode = 'PM005';
end
$$;

comment on function refuse_enqueue(text, jsonb, text, text, int, text, timestamptz, interval, int, text) is
    'Internal: PM005 with what is wrong about an enqueue''s arguments.';
