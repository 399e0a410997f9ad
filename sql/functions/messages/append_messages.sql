-- append_messages: what a run has produced goes into its thread's log.
--
-- Only while that claim holds the lane: a run that was interrupted, or whose lease is
-- lost, can append nothing.
--
-- Locks: the claimed dispatch for key share, the thread; waits eight seconds at most
-- for each (start_run).   Time: the database clock.
create or replace function append_messages(
    thread_id text,
    run_id uuid,
    dispatch_id uuid,
    claim_token uuid,
    messages jsonb,
    expected_message_version bigint default null
)
returns setof message
language plpgsql
volatile
security definer
set search_path from current
set lock_timeout = '8s'
set enable_seqscan = off
set jit = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
    carrier uuid;
    locked thread;
    batch record;
    taken text;
begin
    perform check_thread_id(append_messages.thread_id);
    perform check_messages(append_messages.thread_id, append_messages.messages);
    carrier := assert_lane(append_messages.thread_id, append_messages.claim_token);
    if carrier is null or carrier is distinct from append_messages.dispatch_id then
        perform assert_claim(append_messages.dispatch_id, append_messages.claim_token);
        raise exception 'dispatch % does not hold thread %',
              append_messages.dispatch_id, append_messages.thread_id
        using errcode = 'PM003';
    end if;
    locked := lock_thread(append_messages.thread_id);
    perform assert_still(append_messages.thread_id, carrier);
    if exists (
        select
          from run r
         where r.run_id = append_messages.run_id
           and r.thread_id <> append_messages.thread_id)
    then
        raise exception 'run % is not of thread %', append_messages.run_id,
              append_messages.thread_id using errcode = 'PM005';
    end if;
    perform check_message_version(locked, append_messages.expected_message_version);
    select coalesce(array_agg(coalesce(m.element ->> 'id', new_id()::text)
                              order by m.ord), '{}') as ids,
           array_agg(m.element order by m.ord) as payloads
      into batch
      from jsonb_array_elements(append_messages.messages) with ordinality
           m (element, ord);
    select i.id into taken
      from unnest(batch.ids) with ordinality i (id, ord)
     where i.ord <> array_position(batch.ids, i.id)
        or (select true
              from message m
             where m.thread_id = append_messages.thread_id and m.message_id = i.id
             limit 1)
        or (select true
              from pending_message p
             where p.thread_id = append_messages.thread_id and p.message_id = i.id
             limit 1)
     limit 1;
    if taken is not null then
        raise exception 'message % already exists', taken using
            errcode = 'PM001',
            detail = format('in thread %s', append_messages.thread_id);
    end if;
    return query
    select *
      from commit_messages(
               locked, batch.ids, batch.payloads, null, append_messages.run_id,
               append_messages.dispatch_id, true);
end
$$;

comment on function append_messages(text, uuid, uuid, uuid, jsonb, bigint) is
    'Append what a run produced to its thread''s log; returns the messages. PM003 '
    'unless that claim holds the lane, PM006 when the log has gone on, PM001 for an '
    'id that exists.';
