-- new_id: a UUIDv7 (RFC 9562, section 5.7): 48 bits of milliseconds, then random bits.
--
-- PostgreSQL 18 has one of its own called uuidv7; ours has another name so that neither
-- shadows the other, and works on every supported major. A UUIDv4 already carries the
-- variant bits; its first 48 bits are replaced by the time and the version nibble 4
-- (0100) becomes 7 (0111) by setting two bits.
--
-- Locks: none.   Time: clock_timestamp(): an id must not collide when a test has
-- shifted the clock back.
create or replace function new_id()
returns uuid
language plpgsql
volatile
set search_path from current
as $$
begin
    return encode(
        set_bit(set_bit(
            overlay(
                uuid_send(gen_random_uuid())
                placing substring(
                    int8send((extract(epoch from clock_timestamp()) * 1000)::bigint)
                    from 3)
                from 1 for 6
            ), 52, 1), 53, 1),
        'hex')::uuid;
end
$$;

comment on function new_id() is 'A new UUIDv7.';
