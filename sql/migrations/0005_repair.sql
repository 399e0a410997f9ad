-- 0005_repair: what recovery and clean-up need to know.
--
-- Locks: the tables that it changes.   Time: none.

-- Which server, and since when: after a restart or a failover every session is gone,
-- and says nothing about the consumers.
alter table consumer add column server_since timestamptz;
comment on column consumer.server_since is
    'Since when the server had been up, as it announced itself.';

-- gc forgets lanes that say nothing
create index lane_idle_idx on lane (updated_at)
    where policy = 'skip' and paused_at is null and halted_at is null;

-- A run that cannot be dispatched would stop every recovery. Not valid: what is there
-- already is not looked at, so that the table is not read under the lock.
alter table run add constraint run_carriable_check check (
    length(kind) between 1 and 512
    and length(queue) between 1 and 512
    and priority between 0 and 255
) not valid;
