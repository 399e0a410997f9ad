-- refuse_existing: a dispatch id is used once.
--
-- Locks: none.   Time: none.
create or replace function refuse_existing(dispatch_id uuid)
returns void
language plpgsql
immutable
set search_path from current
as $$
begin
    raise exception 'dispatch % already exists', dispatch_id using
        errcode = 'PM001',
        hint = 'it was enqueued before (load_dispatch shows it); without dispatch_id '
               'a new one is made';
end
$$;

comment on function refuse_existing(uuid) is
    'Internal: PM001 for a dispatch id that exists.';
