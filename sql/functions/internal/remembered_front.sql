-- remembered_front: the ranges of the ready index that this session's claims from these
-- queues read for now.
--
-- What it is for stands above claim. The session remembers, for some priorities, up to
-- which place all was read; that holds for the priorities below each of them as well,
-- down to the next one that is remembered. Range n begins behind (priorities[n],
-- places[n]), ends before the priority ends[n], and of it only what lies behind the
-- place floors[n] has not been read. Where nothing is remembered (or it was about other
-- queues, or its time is up) there is one range, which is all.
--
-- Locks: none.   Time: the database clock.
create or replace function remembered_front(
    queues text[],
    out priorities int[],
    out places bigint[],
    out ends int[],
    out floors bigint[],
    out is_remembered boolean
)
returns record
language plpgsql
volatile
set search_path from current
as $$
#variable_conflict use_column
declare
    behind_all constant bigint := 9223372036854775807;
    kept jsonb;
begin
    priorities := '{-1}';
    places := '{0}';
    ends := '{256}';
    floors := '{0}';
    is_remembered := false;
    if coalesce(current_setting(current_schema() || '.front', true), '') = '' then
        return;
    end if;
    kept := current_setting(current_schema() || '.front', true)::jsonb;
    if kept -> 'queues' is distinct from to_jsonb(remembered_front.queues)
       or clock() >= (kept ->> 'until')::timestamptz
    then
        perform set_config(current_schema() || '.front', '', false);
        return;
    end if;

    is_remembered := true;
    with front as (
        select f.key::int as priority, f.value::bigint as place
          from jsonb_each(kept -> 'front') f
    )
    select array_agg(r.priority), array_agg(r.place), array_agg(r.ending),
           array_agg(r.floor)
      into priorities, places, ends, floors
      from (
          select coalesce(lag(f.priority) over (order by f.priority), -1) as priority,
                 behind_all as place, f.priority as ending, f.place as floor
            from front f
          union all
          select f.priority, f.place, f.priority + 1, f.place from front f
          union all
          select max(f.priority), behind_all, 256, 0 from front f
      ) r;
end
$$;

comment on function remembered_front(text[]) is
    'Internal: the ranges of the ready index that this session''s claims read for now.';
