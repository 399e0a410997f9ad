-- keep_message: the trigger that makes committed messages immutable.
--
-- The one change that is allowed is to become a tombstone; nothing is ever deleted.
--
-- Locks: none.   Time: none.
create or replace function keep_message()
returns trigger
language plpgsql
set search_path from current
as $$
begin
    if tg_op = 'UPDATE'
       and old.removed_at is null and new.removed_at is not null
       and new.payload = '{}'
       and (new.thread_id, new.seq, new.message_id, new.created_at, new.committed_at)
           = (old.thread_id, old.seq, old.message_id, old.created_at, old.committed_at)
       and new.written = old.written
       and new.run_id is not distinct from old.run_id
       and new.dispatch_id is not distinct from old.dispatch_id
    then
        return new;
    end if;
    if tg_op = 'TRUNCATE' then
        raise exception 'committed messages are kept' using
            errcode = 'PM007',
            hint = 'remove_message puts a tombstone in the place of one';
    end if;
    raise exception 'message % of thread % is committed', old.seq, old.thread_id using
        errcode = 'PM007',
        hint = 'remove_message puts a tombstone in its place';
end
$$;

comment on function keep_message() is
    'Internal: trigger of message; committed messages change only into tombstones.';

-- Only where they are missing: to make a trigger locks the table against all who write.
do $$
begin
    if not exists (
        select
          from pg_trigger t
         where t.tgrelid = 'message'::regclass and t.tgname = 'message_immutable')
    then
        create trigger message_immutable
            before update or delete on message
            for each row execute function keep_message();
    end if;
    if not exists (
        select
          from pg_trigger t
         where t.tgrelid = 'message'::regclass and t.tgname = 'messages_are_kept')
    then
        create trigger messages_are_kept
            before truncate on message
            for each statement execute function keep_message();
    end if;
end
$$;
