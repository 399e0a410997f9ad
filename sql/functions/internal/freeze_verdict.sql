-- freeze_verdict: what a freeze at this boundary, for this run, does with one message.
--
-- take, skip (left pending, the walk goes on) or stop. Boundaries in fallthrough order:
-- interrupt, next_step, on_natural_end, new_run; a message is eligible at its own and
-- at every later one, at new_run only if it falls back to it. resume_input stands
-- apart: eligible at resume_input alone, for its target run alone. Whether a barrier,
-- or a message that is read alone, ends the walk depends on what went before: see
-- frozen_by_walk.
--
-- Locks: none.   Time: none.
create or replace function freeze_verdict(
    m pending_message, boundary text, run_id uuid
)
returns text
language plpgsql
immutable
set search_path from current
as $$
#variable_conflict use_column
declare
    ladder constant text[] := array[
        'interrupt', 'next_step', 'on_natural_end', 'new_run'];
    is_for_run constant boolean := m.target_run_id is null
                                or m.target_run_id = freeze_verdict.run_id;
    is_eligible boolean;
begin
    is_eligible := case
        when m.boundary = 'resume_input' or freeze_verdict.boundary = 'resume_input'
            then m.boundary = freeze_verdict.boundary
                 and m.target_run_id = freeze_verdict.run_id
        when freeze_verdict.boundary = 'new_run'
            then case m.boundary
                     when 'new_run' then is_for_run or m.fallback_to_new_run
                     else m.fallback_to_new_run
                 end
        else array_position(ladder, m.boundary)
                 <= array_position(ladder, freeze_verdict.boundary)
             and is_for_run
    end;
    if coalesce(is_eligible, false) then
        return 'take';
    elsif m.barrier then
        return 'stop';
    elsif freeze_verdict.boundary <> 'new_run' and m.boundary = 'new_run'
       or freeze_verdict.boundary = 'new_run' and m.boundary <> 'new_run'
          and not m.fallback_to_new_run
    then
        return 'skip';
    end if;
    return 'stop';
end
$$;

comment on function freeze_verdict(pending_message, text, uuid) is
    'Internal: whether a freeze takes, skips or stops at one message.';
