-- withdraw_command: the sender takes a command back, unless the run was quicker.
--
-- True: withdrawn, now or before; it can never be delivered. False: the run has it.
-- Check and write are one statement, which waits for a run that is just taking it.
--
-- Locks: the command.   Time: the database clock.
create or replace function withdraw_command(command_id uuid)
returns boolean
language plpgsql
volatile
security definer
set search_path from current
as $$
#variable_conflict use_column
begin
    update command c
       set withdrawn_at = coalesce(c.withdrawn_at, clock())
     where c.command_id = withdraw_command.command_id and c.taken_at is null;
    if found then
        return true;
    end if;
    return not is_command_taken(withdraw_command.command_id);
end
$$;

comment on function withdraw_command(uuid) is
    'Take a command back: true when it can no longer be delivered, false when the run '
    'has it. PM004 unknown.';
