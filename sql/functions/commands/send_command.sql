-- send_command: say something to the run that is active in a thread now.
--
-- Returns the command's id, or null: nobody is there. Being sent says nothing yet: the
-- run takes it (take_commands) or it is withdrawn (withdraw_command), and whichever
-- comes first has the say. It has to be committed to be seen.
--
-- Clears away what has expired a minute ago and earlier, a few at a time.
--
-- Locks: expired rows (skip locked).   Time: the database clock.
create or replace function send_command(
    thread_id text, payload jsonb, lifetime interval default '1 minute'
)
returns uuid
language plpgsql
volatile
security definer
set search_path from current
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
    now constant timestamptz := clock();
    active dispatch;
    sent uuid;
begin
    perform check_thread_id(send_command.thread_id);
    perform check_duration('lifetime', send_command.lifetime, false);
    if send_command.payload is null then
        raise exception 'payload must not be null' using errcode = 'PM005';
    end if;
    delete from command c
     where c.command_id = any (array(
               select o.command_id
                 from command o
                where o.expires_at < now - interval '1 minute'
                order by o.expires_at
                limit 100
                  for update skip locked));

    select d.* into active
      from dispatch d
     where d.thread_id = send_command.thread_id and d.status = 'claimed';
    if not found
       or active.dispatch_epoch < current_dispatch_epoch(send_command.thread_id)
       or not exists (
              select from run r where r.run_id = active.run_id and r.status = 'running')
    then
        return null;
    end if;
    insert into command (
        command_id, thread_id, run_id, created_at, expires_at, payload)
    values (
        new_id(), send_command.thread_id, active.run_id, now,
        now + send_command.lifetime, send_command.payload)
    returning command_id into sent;
    perform pg_notify(current_schema(), json_build_object(
        'event', 'command', 'dispatch_id', active.dispatch_id)::text);
    return sent;
end
$$;

comment on function send_command(text, jsonb, interval) is
    'Send a command to the run that is active in a thread; returns its id, null when '
    'nobody is there. PM005 for bad arguments.';
