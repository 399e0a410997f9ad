-- set_mailbox_limit: how many messages may be pending, and what becomes of one too
-- many.
--
-- reject: PM011. drop_oldest: the oldest pending ones make room. coalesce: the last
-- pending one keeps its id and place and takes the new payload. Null ends the limit.
--
-- Locks: the thread.
-- Time: the database clock.
create or replace function set_mailbox_limit(
    thread_id text, max_depth int, on_full text default 'reject'
)
returns void
language plpgsql
volatile
security definer
set search_path from current
as $$
#variable_conflict use_column
begin
    perform check_thread_id(set_mailbox_limit.thread_id);
    if set_mailbox_limit.max_depth < 1 then
        raise exception 'max_depth must be above zero' using
            errcode = 'PM005',
            detail = format('max_depth is %s', set_mailbox_limit.max_depth),
            hint = 'null ends the limit';
    elsif set_mailbox_limit.on_full is null
       or set_mailbox_limit.on_full not in ('reject', 'drop_oldest', 'coalesce')
    then
        raise exception 'unknown on_full %',
              coalesce(quote_literal(set_mailbox_limit.on_full), 'null')
        using errcode = 'PM005', hint = 'reject, drop_oldest or coalesce';
    end if;
    perform lock_thread(set_mailbox_limit.thread_id);
    update thread t
       set max_depth = set_mailbox_limit.max_depth, on_full = set_mailbox_limit.on_full,
           updated_at = clock()
     where t.thread_id = set_mailbox_limit.thread_id;
end
$$;

comment on function set_mailbox_limit(text, int, text) is
    'Limit a thread''s pending messages: reject (PM011), drop_oldest or coalesce what '
    'is one too many. Null ends the limit.';
