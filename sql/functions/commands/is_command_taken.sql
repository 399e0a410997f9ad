-- is_command_taken: whether the run has a command.
--
-- Locks: none.   Time: none.
create or replace function is_command_taken(command_id uuid)
returns boolean
language plpgsql
stable
security definer
set search_path from current
as $$
#variable_conflict use_column
declare
    taken boolean;
begin
    select c.taken_at is not null into taken
      from command c
     where c.command_id = is_command_taken.command_id;
    if not found then
        raise exception 'there is no command %',
              coalesce(is_command_taken.command_id::text, 'null')
        using errcode = 'PM004', hint = 'expired ones are cleared away';
    end if;
    return taken;
end
$$;

comment on function is_command_taken(uuid) is
    'Whether the run has taken a command. PM004 unknown.';
