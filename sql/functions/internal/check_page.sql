-- check_page: a page has at least one row; statuses are words that exist.
--
-- Locks: none.   Time: none.
create or replace function check_page(page_size int, statuses text[] default null)
returns void
language plpgsql
immutable
set search_path from current
as $$
declare
    known constant text[] := array[
        'queued', 'claimed', 'acked', 'cancelled', 'superseded', 'dead_letter'];
begin
    perform check_count('page_size', page_size);
    if statuses is not null and not statuses <@ known then
        raise exception 'unknown status %', (
            select coalesce(quote_literal(s), 'null')
              from unnest(statuses) s
             where s is null or s <> all (known)
             limit 1)
        using errcode = 'PM005', hint = array_to_string(known, ', ');
    end if;
end
$$;

comment on function check_page(int, text[]) is
    'Internal: PM005 for a page size below one or an unknown status.';
