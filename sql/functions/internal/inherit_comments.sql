-- inherit_comments: the columns of a view are described like those of the table that
-- they come from, unless they have a description of their own.
--
-- Locks: the view.   Time: none.
create or replace function inherit_comments(view_name text, table_name text)
returns void
language plpgsql
volatile
set search_path from current
as $$
declare
    col record;
begin
    for col in
        select v.attname, col_description(t.attrelid, t.attnum) as said
          from pg_attribute v
          join pg_attribute t on t.attrelid = table_name::regclass
                             and t.attname = v.attname
         where v.attrelid = view_name::regclass
           and col_description(v.attrelid, v.attnum) is null
           and col_description(t.attrelid, t.attnum) is not null
    loop
        execute format(
            'comment on column %I.%I is %L', view_name, col.attname, col.said);
    end loop;
end
$$;

comment on function inherit_comments(text, text) is
    'Internal: describe a view''s columns like those of its table.';
