-- make_room: see to it that so many messages fit into a limited mailbox.
--
-- reject: PM011 when they do not. drop_oldest: the oldest go, as far as there are any.
-- coalesce: returns how many of the new ones do not fit; otherwise returns 0.
--
-- Locks: the thread, so that two deliveries do not both find the last place.
create or replace function make_room(thread_id text, messages int)
returns int
language plpgsql
volatile
set search_path from current
as $$
#variable_conflict use_column
declare
    mailbox constant thread := lock_thread(make_room.thread_id);
    depth int;
    too_many int;
begin
    select count(*) into depth
      from pending_message p
     where p.thread_id = make_room.thread_id;
    too_many := depth + make_room.messages - mailbox.max_depth;
    if coalesce(too_many, 0) <= 0 or make_room.messages = 0 then
        return 0;
    elsif mailbox.on_full = 'coalesce' then
        return least(too_many, make_room.messages);
    elsif mailbox.on_full = 'drop_oldest' and make_room.messages <= mailbox.max_depth then
        delete from pending_message p
         where p.thread_id = make_room.thread_id
           and p.message_id in (
                   select o.message_id
                     from pending_message o
                    where o.thread_id = make_room.thread_id
                    order by o.rank
                    limit too_many);
        perform touch_pending(make_room.thread_id);
        return 0;
    end if;
    raise exception 'the mailbox of thread % is full', make_room.thread_id using
        errcode = 'PM011',
        detail = format('%s of %s are pending, %s more do not fit', depth,
                        mailbox.max_depth, make_room.messages),
        hint = 'try again when the thread has read some, or set_mailbox_limit';
end
$$;

comment on function make_room(text, int) is
    'Internal: make room in a limited mailbox, or raise PM011; returns how many messages '
    'are to be coalesced.';
