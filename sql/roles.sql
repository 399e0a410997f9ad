-- roles: who may do what. Applied last, whenever functions or views have changed.
--
-- producer: hands work in and takes it back. consumer: also claims, settles and
-- maintains. operator: what a person does by hand. observer: looks. All four read the
-- views and use the reading functions; none of them touches a table: the functions are
-- security definer and the only door. Nothing is executable by public.
--
-- Roles belong to the cluster, not to the database: another database's migration may be
-- creating the same ones at this moment (23505, duplicate_object), and the migrating
-- role may not be allowed to create any: then a notice says what an administrator would
-- run.
do $$
declare
    schema constant text := current_schema();
    reading constant text[] := '{
        count_dispatches_by_status, current_dispatch_epoch, is_command_taken,
        list_dispatches,
        list_terminal_dispatches, list_messages, list_pending,
        list_threads_with_pending_messages, live_consumers, load_dispatch, load_run,
        pending_queue_revision, queued_thread_ids,
        timeline, why, work_left, clock}';
    producing constant text[] := '{
        cancel, deliver, enqueue, enqueue_batch, enqueue_many, interrupt,
        reorder_pending, retract_pending, send_command, submit, submit_background,
        submit_live, update_pending, withdraw_command}';
    maintaining constant text[] := '{
        gc, next_lease_expiry, orphans_among, purge_terminal, reclaim_abandoned,
        reclaim_expired_leases, reconcile_terminal_dispatches, reconstruct_dispatches,
        repair_message_events, resume_run, wake_background_runs, wake_threads}';
    consuming constant text[] := '{
        ack, ack_and_claim, ack_many, announce_consumer, append_messages, await_work,
        claim, claim_dispatch, claimed_run, create_run, dead_letter, dead_letter_many,
        dismiss_consumer, extend_lease, extend_leases, finish_run, freeze, guard_claim,
        nack, nack_many, record_dispatch_start, record_run_result, release,
        release_many, release_strays, renew_leases, start_run, supersede_claimed,
        take_commands, wait_run}';
    operating constant text[] := '{
        cancel, interrupt, pause_queue, pause_thread, remove_message, resume_queue,
        resume_thread, retry_dispatch, set_lane_policy, set_mailbox_limit}';
    may jsonb;
    role_name text;
    rank text;
    fn record;
begin
    may := jsonb_build_object(
        'observer', to_jsonb(reading),
        'producer', to_jsonb(reading || producing),
        'consumer', to_jsonb(reading || producing || consuming || maintaining),
        'operator', to_jsonb(reading || operating || maintaining));

    execute format('revoke all on all functions in schema %I from public', schema);
    execute format('revoke all on all tables in schema %I from public', schema);
    execute format('revoke all on all sequences in schema %I from public', schema);
    execute format('revoke all on schema %I from public', schema);

    foreach rank in array '{observer,producer,consumer,operator}'::text[] loop
        role_name := schema || '_' || rank;
        if to_regrole(quote_ident(role_name)) is null then
            begin
                execute format('create role %I nologin', role_name);
            exception
                when duplicate_object or unique_violation then
                    null;
                when insufficient_privilege then
                    raise warning 'role % is missing and may not be created by %',
                          role_name, current_user
                    using hint = format(
                        'an administrator runs: create role %I nologin; then migrate '
                        'again', role_name);
                    continue;
            end;
        end if;
        execute format(
            'revoke all on all functions in schema %I from %I', schema, role_name);
        execute format(
            'revoke all on all tables in schema %I from %I', schema, role_name);
        execute format('grant usage on schema %I to %I', schema, role_name);
        for fn in
            select p.oid::regprocedure as signature
              from pg_proc p
             where p.pronamespace = schema::regnamespace and may -> rank ? p.proname
        loop
            execute format(
                'grant execute on function %s to %I', fn.signature, role_name);
        end loop;
        for fn in
            select c.oid::regclass as signature
              from pg_class c
             where c.relnamespace = schema::regnamespace and c.relkind = 'v'
        loop
            execute format('grant select on %s to %I', fn.signature, role_name);
        end loop;
    end loop;
end
$$;
