-- make_room: see to it that these messages fit into a limited mailbox.
--
-- What is known already does not come in at all (refuse_known).
--
-- reject: PM011 when they do not. drop_oldest: the oldest go, be it those of the same
-- call. coalesce: the last one takes in what does not fit. surplus: how many of the new
-- ones are not to be stored by themselves.
--
-- Locks: for reject an advisory lock that only deliveries take, so that two of them do
-- not both find the last place, and no run waits for either; otherwise the thread, as
-- for an edit.
-- Time: the database clock.
create or replace function make_room(
    thread_id text, messages jsonb, out surplus int, out on_full text
)
returns record
language plpgsql
volatile
set search_path from current
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
    mailbox thread;
    arriving constant int := jsonb_array_length(make_room.messages);
    depth int;
    too_many int;
    dropped text[];
begin
    select t.* into mailbox from thread t where t.thread_id = make_room.thread_id;
    if mailbox.on_full = 'reject' then
        perform pg_advisory_xact_lock(
            hashtextextended(make_room.thread_id, 'thread'::regclass::oid::bigint));
    else
        mailbox := lock_thread(make_room.thread_id);
    end if;
    perform refuse_known(
        make_room.thread_id,
        array(
            select m.element ->> 'id'
              from jsonb_array_elements(make_room.messages) m (element)
             where m.element ? 'id'));
    surplus := 0;
    on_full := mailbox.on_full;
    -- the limit may have been lowered: how far beyond it is of interest to drop_oldest
    select count(*) into depth
      from (select
              from pending_message p
             where p.thread_id = make_room.thread_id
             limit case when on_full <> 'drop_oldest' then mailbox.max_depth end) p;
    too_many := depth + arriving - mailbox.max_depth;
    if coalesce(too_many, 0) <= 0 or arriving = 0 then
        return;
    elsif on_full = 'coalesce' then
        surplus := least(too_many, arriving);
    elsif on_full = 'drop_oldest' then
        surplus := greatest(arriving - mailbox.max_depth, 0);
        with gone as (
            delete from pending_message p
             where p.thread_id = make_room.thread_id
               and p.rank = any (array(
                       select o.rank
                         from pending_message o
                        where o.thread_id = make_room.thread_id
                        order by o.rank
                        limit too_many))
            returning p.message_id
        )
        select array_agg(g.message_id) into dropped from gone g;
        perform touch_pending(make_room.thread_id);
        perform record_event(
            'messages_discarded', make_room.thread_id,
            detail => jsonb_build_object(
                'reason', 'mailbox full',
                'message_ids', to_jsonb(coalesce(dropped, '{}')),
                'not_stored', surplus));
    else
        raise exception 'the mailbox of thread % is full', make_room.thread_id using
            errcode = 'PM011',
            detail = format('%s of %s are pending, %s more do not fit', depth,
                            mailbox.max_depth, arriving),
            hint = 'try again when the thread has read some, or set_mailbox_limit';
    end if;
end
$$;

comment on function make_room(text, jsonb) is
    'Internal: make room in a limited mailbox, or raise PM011; returns how many '
    'messages are not to be stored by themselves, and why.';
