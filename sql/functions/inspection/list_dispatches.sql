-- list_dispatches: pages of dispatches, live and terminal.
--
-- Within a thread in claim order (priority, then enqueue order), across threads by
-- dispatch_id; after is the last dispatch of the page before. Each part reads no more
-- than a page from an index that has its order: the live table has one for each phase
-- of a lane, the history one for the statuses that are rare.
--
-- Locks: none.   Time: none.
create or replace function list_dispatches(
    thread_id text default null,
    statuses text[] default null,
    page_size int default 100,
    after uuid default null
)
returns setof dispatch
language plpgsql
stable
security definer
set search_path from current
set enable_seqscan = off
set jit = off
set plan_cache_mode = force_custom_plan
as $$
#variable_conflict use_column
declare
    wanted constant text[] := coalesce(
        list_dispatches.statuses,
        '{queued,claimed,acked,cancelled,superseded,dead_letter}');
    rare constant text[] := array(
        select distinct s
          from unnest(wanted) s
         where s not in ('queued', 'claimed', 'acked'));
    last dispatch;
    last_priority smallint := -1;
    last_seq bigint := 0;
    last_id uuid := coalesce(
        list_dispatches.after, '00000000-0000-0000-0000-000000000000');
begin
    perform check_page(list_dispatches.page_size, list_dispatches.statuses);
    if list_dispatches.thread_id is null then
        return query
        with held as materialized (
            -- few, and sought by their leases alone: by their ids all are in the way
            select d.dispatch_id
              from dispatch d
             where 'claimed' = any (wanted) and d.lease_until is not null
        )
        select m.*
          from (
              (select d.* from dispatch d
                where 'queued' = any (wanted)
                  and d.dispatch_id > last_id and d.phase is not null
                order by d.dispatch_id
                limit list_dispatches.page_size)
              union all
              (select d.* from dispatch d
                where d.dispatch_id = any (array(
                          select h.dispatch_id
                            from held h
                           where h.dispatch_id > last_id
                           order by h.dispatch_id
                           limit list_dispatches.page_size)))
              union all
              (select h.* from dispatch_history h
                where 'acked' = any (wanted)
                  and h.dispatch_id > last_id and h.status = 'acked'
                order by h.dispatch_id
                limit list_dispatches.page_size)
              union all
              (select h.*
                 from unnest(rare) s (status)
                cross join lateral (
                    select h.* from dispatch_history h
                     where h.status = s.status and h.status <> 'acked'
                       and h.dispatch_id > last_id
                     order by h.dispatch_id
                     limit list_dispatches.page_size) h)
              order by dispatch_id
              limit list_dispatches.page_size
          ) d
         cross join lateral masked(d::dispatch) m
         order by d.dispatch_id;
        return;
    end if;

    perform check_thread_id(list_dispatches.thread_id);
    if list_dispatches.after is not null then
        select f.* into last from find_dispatch(list_dispatches.after) f;
        if not found then
            raise exception 'there is no dispatch % to go on after',
                  list_dispatches.after
            using errcode = 'PM004';
        end if;
        last_priority := last.priority;
        last_seq := last.seq;
    end if;
    return query
    select m.*
      from (
          (select d.* from dispatch d
            where 'queued' = any (wanted)
              and d.thread_id = list_dispatches.thread_id
              and d.phase in ('ready', 'blocked')
              and (d.priority, d.seq) > (last_priority, last_seq)
            order by d.priority, d.seq
            limit list_dispatches.page_size)
          union all
          (select d.* from dispatch d
            where 'queued' = any (wanted)
              and d.thread_id = list_dispatches.thread_id
              and d.phase = 'scheduled'
              and (d.priority, d.seq) > (last_priority, last_seq)
            order by d.priority, d.seq
            limit list_dispatches.page_size)
          union all
          (select d.* from dispatch d
            where 'claimed' = any (wanted)
              and d.thread_id = list_dispatches.thread_id
              and d.status = 'claimed'
              and (d.priority, d.seq) > (last_priority, last_seq))
          union all
          (select h.* from dispatch_history h
            where h.thread_id = list_dispatches.thread_id
              and h.status = any (wanted)
              and (h.priority, h.seq) > (last_priority, last_seq)
            order by h.priority, h.seq
            limit list_dispatches.page_size)
          order by priority, seq
          limit list_dispatches.page_size
      ) d
     cross join lateral masked(d::dispatch) m
     order by d.priority, d.seq;
end
$$;

comment on function list_dispatches(text, text[], int, uuid) is
    'Dispatches a page at a time: claim order within a thread, dispatch_id order '
    'across threads. PM005 for an unknown status.';
