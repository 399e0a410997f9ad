-- list_dispatches: pages of dispatches, live and terminal.
--
-- Within a thread in claim order (priority, then enqueue order), across threads by dispatch_id; after is the last dispatch of
-- the page before. Each side reads no more than a page from its index.
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
as $$
#variable_conflict use_column
declare
    last dispatch;
begin
    perform check_page(list_dispatches.page_size, list_dispatches.statuses);
    if list_dispatches.thread_id is null then
        return query
        select m.*
          from (
              (select d.* from dispatch d
                where (list_dispatches.after is null or d.dispatch_id > list_dispatches.after)
                  and (list_dispatches.statuses is null or d.status = any (list_dispatches.statuses))
                order by d.dispatch_id
                limit list_dispatches.page_size)
              union all
              (select h.* from dispatch_history h
                where (list_dispatches.after is null or h.dispatch_id > list_dispatches.after)
                  and (list_dispatches.statuses is null or h.status = any (list_dispatches.statuses))
                order by h.dispatch_id
                limit list_dispatches.page_size)
          ) d
         cross join lateral masked(d::dispatch) m
         order by d.dispatch_id
         limit list_dispatches.page_size;
        return;
    end if;

    perform check_thread_id(list_dispatches.thread_id);
    if list_dispatches.after is not null then
        select f.* into last from find_dispatch(list_dispatches.after) f;
        if not found then
            raise exception 'there is no dispatch % to go on after', list_dispatches.after using errcode = 'PM004';
        end if;
    end if;
    return query
    select m.*
      from (
          (select d.* from dispatch d
            where d.thread_id = list_dispatches.thread_id
              and (last.seq is null or (d.priority, d.seq) > (last.priority, last.seq))
              and (list_dispatches.statuses is null or d.status = any (list_dispatches.statuses))
            order by d.priority, d.seq
            limit list_dispatches.page_size)
          union all
          (select h.* from dispatch_history h
            where h.thread_id = list_dispatches.thread_id
              and (last.seq is null or (h.priority, h.seq) > (last.priority, last.seq))
              and (list_dispatches.statuses is null or h.status = any (list_dispatches.statuses))
            order by h.priority, h.seq
            limit list_dispatches.page_size)
      ) d
     cross join lateral masked(d::dispatch) m
     order by d.priority, d.seq
     limit list_dispatches.page_size;
end
$$;

comment on function list_dispatches(text, text[], int, uuid) is
    'Dispatches a page at a time: claim order within a thread, dispatch_id order across threads. PM005 for an unknown status.';
