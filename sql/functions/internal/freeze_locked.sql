-- freeze_locked: read what a boundary lets this run read. The caller has locked the
-- thread.
--
-- expected: the selection that the caller saw; PM006 when the walk finds another.
--
-- Locks: the pending messages.   Time: the database clock.
create or replace function freeze_locked(
    locked thread,
    boundary text,
    run_id uuid,
    dispatch_id uuid,
    expected text[] default null
)
returns setof message
language plpgsql
volatile
set search_path from current
as $$
#variable_conflict use_column
declare
    ids constant text[] := array(
        select frozen_by_walk(
            locked.thread_id, freeze_locked.boundary, freeze_locked.run_id));
    batch record;
begin
    if freeze_locked.expected is not null and freeze_locked.expected <> ids then
        raise exception 'thread % has other messages pending than expected',
              locked.thread_id
        using
            errcode = 'PM006',
            detail = format('at %s it would read %s', freeze_locked.boundary,
                            coalesce(nullif(array_to_string(ids, ', '), ''), 'nothing')),
            hint = 'read them again (list_pending), and decide again';
    end if;
    with gone as (
        delete from pending_message p
         where p.thread_id = locked.thread_id and p.message_id = any (ids)
        returning p.message_id, p.payload, p.created_at, p.rank
    )
    select coalesce(array_agg(message_id order by rank), '{}') as ids,
           array_agg(payload order by rank) as payloads,
           array_agg(created_at order by rank) as created_ats
      into batch
      from gone;
    return query
    select *
      from commit_messages(
               locked, batch.ids, batch.payloads, batch.created_ats,
               freeze_locked.run_id, freeze_locked.dispatch_id, false);
end
$$;

comment on function freeze_locked(thread, text, uuid, uuid, text[]) is
    'Internal: commit the pending messages that a boundary lets a run read.';
