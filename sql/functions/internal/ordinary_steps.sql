-- ordinary_steps: the steps of a dispatch that are no rows of event: queued, claimed, acked.
create or replace function ordinary_steps(
    d dispatch,
    out event_id bigint,
    out at timestamptz,
    out event text,
    out consumer_id text,
    out attempt int,
    out detail jsonb
)
returns setof record
language plpgsql
immutable
set search_path from current
as $$
begin
    event_id := d.seq;
    at := d.created_at;
    event := 'queued';
    detail := jsonb_build_object('kind', d.kind, 'queue', d.queue, 'priority', d.priority,
                                 'dispatch_epoch', d.dispatch_epoch);
    return next;
    if d.claimed_event_id is not null then
        event_id := d.claimed_event_id;
        at := d.last_claimed_at;
        event := 'claimed';
        consumer_id := d.last_claimed_by;
        attempt := least(d.attempt_count + 1, d.max_attempts);
        detail := jsonb_strip_nulls(jsonb_build_object('lease_until', d.lease_until));
        return next;
    end if;
    if d.status = 'acked' then
        event_id := d.completed_event_id;
        at := d.completed_at;
        event := 'acked';
        detail := '{}';
        return next;
    end if;
end
$$;

comment on function ordinary_steps(dispatch) is 'Internal: queued, claimed and acked, as told by the dispatch''s own row.';
