-- retry_dispatch: an operator's second chance for a dispatch that is dead or cancelled.
--
-- Back in the queue with no attempt used, at the thread's current epoch and in its old
-- place in the lane; its run is created again; a lane that it halted goes on. Its last
-- claim, told by the row alone so far, becomes an event row.
--
-- Locks: the history row, its run, its lane's row (for update: a claim that parks rows
-- because of the halt holds it for key share).   Time: the database clock.
create or replace function retry_dispatch(dispatch_id uuid)
returns dispatch
language plpgsql
volatile
security definer
set search_path from current
as $$
#variable_conflict use_column
declare
    now constant timestamptz := clock();
    old dispatch;
    fresh dispatch;
begin
    delete from dispatch_history h
     where h.dispatch_id = retry_dispatch.dispatch_id
       and h.status in ('dead_letter', 'cancelled')
    returning h.* into old;
    if not found then
        select d.* into old from find_dispatch(retry_dispatch.dispatch_id) d;
        if not found then
            raise exception 'there is no dispatch %', retry_dispatch.dispatch_id using
                errcode = 'PM004',
                hint = 'purge_terminal takes terminal dispatches after a time';
        end if;
        raise exception 'dispatch % is %', old.dispatch_id, old.status using
            errcode = 'PM005',
            hint = 'only a dead_letter or cancelled dispatch can be retried';
    end if;

    loop
        insert into dispatch (
            dispatch_id, seq, place, dispatch_epoch, created_at, available_at, run_id,
            priority, max_attempts, queue, kind, thread_id, dedupe_key, phase,
            last_claimed_by, last_claimed_at, updated_at, last_error, payload)
        values (
            old.dispatch_id, old.seq, nextval('event_id_seq'),
            coalesce((
                select e.dispatch_epoch
                  from thread_epoch e
                 where e.thread_id = old.thread_id), 0),
            old.created_at, now, old.run_id, old.priority, old.max_attempts, old.queue,
            old.kind, old.thread_id, old.dedupe_key, 'ready', old.last_claimed_by,
            old.last_claimed_at, now, old.last_error, old.payload)
            on conflict do nothing
        returning * into fresh;
        exit when found;
        perform resolve_duplicate(
            old.dispatch_id, old.thread_id, old.queue, old.dedupe_key, 'raise');
    end loop;

    update run r
       set status = 'created', waiting_reason = null, termination = null,
           response = null, error = null, finished_at = null, updated_at = now
     where r.run_id = old.run_id
       and coalesce(r.dispatch_id, old.dispatch_id) = old.dispatch_id;
    if old.claimed_event_id is not null then
        insert into event (
            event_id, at, event, thread_id, dispatch_id, run_id, consumer_id, attempt)
        values (
            old.claimed_event_id, old.last_claimed_at, 'claimed', old.thread_id,
            old.dispatch_id, old.run_id, old.last_claimed_by,
            least(
                old.attempt_count + (old.status <> 'dead_letter')::int,
                old.max_attempts));
    end if;
    perform record_event(
        'reopened', old.thread_id, old.dispatch_id, old.run_id,
        detail => jsonb_build_object(
            'was', old.status, 'attempt_count', old.attempt_count));

    perform
       from lane l
      where l.thread_id = old.thread_id and l.halted_by = old.dispatch_id
        for update;
    if found then
        update lane l
           set halted_at = null, halted_by = null, updated_at = now
         where l.thread_id = old.thread_id and l.halted_by = old.dispatch_id;
        perform wake_lanes(array[old.thread_id]);
    end if;
    perform ring(array[fresh.queue]);
    return fresh;
end
$$;

comment on function retry_dispatch(uuid) is
    'Queue a dead_letter or cancelled dispatch again, with no attempt used. PM004 '
    'unknown, PM005 in another status, PM002 when its dedupe key is live again.';
