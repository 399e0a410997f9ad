-- take_commands: the run under this claim takes the commands that were sent to it.
--
-- Check and write are one statement: a command that is being withdrawn at this moment
-- is passed over, one that was taken can no longer be withdrawn. take_id names this
-- taking: asked for again under the same id, as the answer was lost, the same commands
-- are returned, and no others.
--
-- Locks: the commands (skip locked).   Time: the database clock.
create or replace function take_commands(
    dispatch_id uuid, claim_token uuid, take_id uuid, max_commands int default 1
)
returns setof command
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
    held dispatch;
begin
    perform check_count('max_commands', take_commands.max_commands);
    if take_commands.take_id is null then
        raise exception 'take_id must not be null' using errcode = 'PM005';
    end if;
    -- the same call, whose connection broke, may be committing still
    perform pg_advisory_xact_lock(
        hashtextextended(
            take_commands.take_id::text, 'command'::regclass::oid::bigint));
    return query
    select c.* from command c where c.taken_as = take_commands.take_id order by c.seq;
    if found then
        return;
    end if;

    select d.* into held
      from dispatch d
     where d.dispatch_id = take_commands.dispatch_id
       and d.claim_token = take_commands.claim_token;
    if not found or held.dispatch_epoch < (
        select e.dispatch_epoch from thread_epoch e where e.thread_id = held.thread_id)
    then
        perform lost_claim(take_commands.dispatch_id, take_commands.claim_token);
    end if;
    return query
    with taken as (
        update command c
           set taken_at = now, taken_as = take_commands.take_id
         where c.command_id = any (array(
                   select o.command_id
                     from command o
                    where o.run_id = held.run_id
                      and o.taken_at is null
                      and o.withdrawn_at is null
                      and o.expires_at > now
                    order by o.seq
                    limit take_commands.max_commands
                      for update skip locked))
        returning c.*
    )
    select t.* from taken t order by t.seq;
end
$$;

comment on function take_commands(uuid, uuid, uuid, int) is
    'Take commands that were sent to the run of this claim, in order; the same again '
    'for the same take_id. PM003 when the claim is lost or stale.';
