-- refuse_enqueue: say what is wrong with the arguments of an enqueue.
--
-- Apart, so that a good enqueue pays for one expression only.
--
-- Locks: none.   Time: none.
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
    perform check_queue(queue);
    perform check_duration('delay', delay, true);
    complaint := case
        when payload is null then 'payload must not be null'
        when coalesce(length(kind), 0) not between 1 and 512
            then 'kind must have 1 to 512 characters'
        when length(dedupe_key) not between 1 and 512
            then 'dedupe_key must have 1 to 512 characters'
        when octet_length(dedupe_key) + octet_length(coalesce(thread_id, queue)) > 2600
            then 'dedupe_key and the thread or queue are too long together'
        when coalesce(priority, -1) not between 0 and 255
            then format('priority must be between 0 and 255, not %s',
                        coalesce(priority::text, 'null'))
        when coalesce(max_attempts, 0) < 1
            then format('max_attempts must be at least 1, not %s',
                        coalesce(max_attempts::text, 'null'))
        when delay is not null and available_at is not null
            then 'give available_at or delay, not both'
        when available_at = 'infinity' then 'available_at must be finite'
        -- which clients could not read, wherever their session is
        when available_at >= '9999-12-31 00:00+00'
            then 'available_at must be before the last day of the year 9999'
        else format('unknown on_duplicate %s: raise or return',
                    coalesce(quote_literal(on_duplicate), 'null'))
    end;
    raise exception '%', complaint using errcode = 'PM005';
end
$$;

comment on function refuse_enqueue(
    text, jsonb, text, text, int, text, timestamptz, interval, int, text
) is
    'Internal: PM005 with what is wrong about an enqueue''s arguments.';
