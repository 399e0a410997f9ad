-- reorder_pending: put the pending messages into this order.
--
-- Must name exactly the pending ones: a message that was delivered, read or retracted
-- since the caller looked makes it PM006. They take fresh ranks, so that what is being
-- delivered at this moment, and is not seen yet, may come to stand before them.
--
-- Where a new run, or one that waits, can now read what it could not before, a dispatch
-- is ensured that does.
--
-- Joined by hashing, whatever the statistics say: nested loops over a queue that was
-- thought to be empty take hours.
--
-- Locks: the thread, then its pending messages.
-- Time: the database clock.
create or replace function reorder_pending(
    thread_id text, message_ids text[], expected_queue_revision bigint default null
)
returns setof pending_entry
language plpgsql
volatile
security definer
set search_path from current
set enable_nestloop = off
set enable_mergejoin = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
    found_ids text[];
    revision bigint;
    was_readable boolean;
begin
    perform check_thread_id(reorder_pending.thread_id);
    if reorder_pending.message_ids is null then
        raise exception 'message_ids must not be null' using errcode = 'PM005';
    end if;
    perform lock_thread(reorder_pending.thread_id);
    found_ids := array(
        select p.message_id
          from pending_message p
         where p.thread_id = reorder_pending.thread_id
           for update);
    revision := pending_queue_revision(reorder_pending.thread_id);
    if reorder_pending.expected_queue_revision <> revision then
        raise exception 'the pending queue of thread % has changed',
              reorder_pending.thread_id
        using
            errcode = 'PM006',
            detail = format('it is at revision %s, not %s', revision,
                            reorder_pending.expected_queue_revision),
            hint = 'read it again (list_pending), and decide again';
    elsif cardinality(reorder_pending.message_ids) <> cardinality(found_ids)
       or exists (
              select unnest(reorder_pending.message_ids)
              except select unnest(found_ids))
       or exists (
              select unnest(found_ids)
              except select unnest(reorder_pending.message_ids))
    then
        raise exception
            'message_ids does not name exactly the pending messages of thread %',
            reorder_pending.thread_id
        using
            errcode = 'PM006',
            detail = format('%s are pending, %s were named', cardinality(found_ids),
                            cardinality(reorder_pending.message_ids)),
            hint = 'read them again (list_pending)';
    end if;

    was_readable := is_readable(reorder_pending.thread_id);
    with fresh as materialized (
        select i.message_id, nextval('event_id_seq') as rank
          from (select i.message_id
                  from unnest(reorder_pending.message_ids) with ordinality
                       i (message_id, ord)
                 order by i.ord) i
    )
    update pending_message p
       set rank = fresh.rank, updated_at = clock()
      from fresh
     where p.thread_id = reorder_pending.thread_id
       and p.message_id = fresh.message_id;
    perform touch_pending(reorder_pending.thread_id);
    if not was_readable then
        perform ensure_reader(reorder_pending.thread_id);
    end if;
    return query select * from pending_entries(reorder_pending.thread_id);
end
$$;

comment on function reorder_pending(text, text[], bigint) is
    'Reorder a thread''s pending messages, all of which must be named. PM006 when '
    'they are not exactly these, or the queue is at another revision.';
