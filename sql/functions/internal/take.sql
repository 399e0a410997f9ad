-- take: the second half of a claim takes what this transaction has locked.
--
-- tids: where the dispatches stand. Nobody else can change a row that is locked, so
-- that it stands there still.
--
-- The tokens of one call share the head of a random UUID and count up from its tail:
-- for anybody but their consumer as hard to guess as any other. A random one each was a
-- tenth of what the server does for a dispatch where it opens /dev/urandom for that
-- (without OpenSSL, measured on PostgreSQL 18).
--
-- Locks: none that are not held.   Time: the database clock.
create or replace function take(
    tids tid[],
    consumer_id text,
    lease interval
)
returns setof dispatch
language plpgsql
volatile
set search_path from current
set enable_seqscan = off
set jit = off
set enable_bitmapscan = off
set enable_mergejoin = off
set enable_hashjoin = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
    now constant timestamptz := clock();
    seed constant text := gen_random_uuid()::text;
    head constant text := left(seed, 24);
    -- the last twelve hex digits as a number; the 1 before them keeps their zeros
    tail constant bigint :=
        x'1000000000000'::bigint
        + ('x' || right(seed, 12))::bit(47)::bigint;
begin
    return query
    update dispatch d
       set status = 'claimed', phase = null,
           place = coalesce(d.place, nextval('event_id_seq')),
           claim_token = (head || substr(to_hex(tail + t.n), 2))::uuid,
           claimed_by = take.consumer_id,
           lease_until = now + take.lease,
           last_claimed_by = take.consumer_id, last_claimed_at = now,
           claimed_event_id = nextval('event_id_seq'), updated_at = now
      from unnest(take.tids) with ordinality t (tid, n)
     where d.ctid = t.tid
    returning d.*;
end
$$;

comment on function take(tid[], text, interval) is
    'Internal: claim these dispatches, which this transaction has locked.';
