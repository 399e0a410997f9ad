-- remember_front: let this session's next claims begin where this one has come to.
--
-- took: how long a claim has taken that walked from the front; null when it began at
-- what was remembered, which then stays valid for as long as it was. How long that is:
-- two hundred times what the walk took, so that such walks, of which there are two,
-- cost one in a hundred, be the entries at hand (0.2 microseconds each) or their rows
-- to be read from disk.
--
-- priority, place: the last that was read (-1: none was); null when nothing was there.
-- left_over: what the claim has read and not taken; what of it is still ready must not
-- lie behind, be it that its lane was just being let go, or that another claim has it,
-- which may yet be rolled back.
--
-- Locks: none.   Time: the database clock.
create or replace function remember_front(
    queues text[],
    priority int,
    place bigint,
    left_over uuid[],
    took interval
)
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
    kept jsonb :=
        nullif(current_setting(current_schema() || '.front', true), '')::jsonb;
    reached record;
begin
    select r.priority, r.place
      into reached
      from (
          (select d.priority, d.place - 1 as place
             from dispatch d
            where d.dispatch_id = any (remember_front.left_over)
              and (d.phase = 'ready') is true  -- not to be led to the ready index
            order by d.priority, d.place
            limit 1)
          union all
          select coalesce(remember_front.priority, 255),
                 coalesce(
                     remember_front.place, (select s.last_value from event_id_seq s))
      ) r
     order by r.priority, r.place
     limit 1;
    if remember_front.took is not null then
        kept := jsonb_build_object(
            'until', clock() + greatest(interval '1 s', 200 * remember_front.took));
    end if;
    kept := jsonb_build_object(
        'queues', remember_front.queues,
        'until', kept -> 'until',
        'front', (
            select jsonb_object_agg(f.priority, f.place)
              from (
                  select reached.priority::int, reached.place
                  union all
                  select o.key::int, o.value::bigint
                    from jsonb_each(kept -> 'front') o
                   where o.key::int > reached.priority
              ) f));
    perform set_config(current_schema() || '.front', kept::text, false);
end
$$;

comment on function remember_front(text[], int, bigint, uuid[], interval) is
    'Internal: let this session''s claims begin, for now, where this one has come to.';
