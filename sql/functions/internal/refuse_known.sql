-- refuse_known: of these ids none may stand there twice or be a message of the thread,
-- pending (PM001) or read (PM007).
--
-- For deliveries to a thread with a limit, whose lock the caller holds: before room is
-- made for what may not come in. Without a limit the unique keys decide.
--
-- Locks: none.   Time: none.
create or replace function refuse_known(thread_id text, ids text[])
returns void
language plpgsql
volatile
set search_path from current
set enable_seqscan = off
set jit = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
    pending_id text;
    taken message;
begin
    select i.id into pending_id
      from unnest(refuse_known.ids) i (id)
     group by i.id
    having count(*) > 1
        or (select true
              from pending_message p
             where p.thread_id = refuse_known.thread_id and p.message_id = i.id
             limit 1)
     limit 1;
    if found then
        raise exception 'message % is pending already', pending_id using
            errcode = 'PM001',
            detail = format('in thread %s', refuse_known.thread_id),
            hint = 'update_pending changes a message that is pending';
    end if;
    select m.* into taken
      from message m
     where m.thread_id = refuse_known.thread_id
       and m.message_id = any (refuse_known.ids)
     limit 1;
    if found then
        raise exception 'message % has been read', taken.message_id using
            errcode = 'PM007',
            detail = format('as seq %s of thread %s', taken.seq, taken.thread_id),
            hint = 'it was delivered before; a new message needs a new id';
    end if;
end
$$;

comment on function refuse_known(text, text[]) is
    'Internal: PM001 or PM007 when one of these ids is a message of the thread.';
