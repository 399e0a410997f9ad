-- new_id: a UUIDv7 (RFC 9562, section 5.7): 48 bits of milliseconds, then random bits.
--
-- PostgreSQL 18 has one of its own called uuidv7; ours has another name so that neither
-- shadows the other, and works on every supported major. A UUIDv4 already carries the
-- variant bits; its first 48 bits are replaced by the time and the version nibble 4
-- (0100) becomes 7 (0111) by setting two bits.
--
-- Not of random(), which would be cheaper where the server has no OpenSSL: sessions
-- that have called setseed() alike would make the same ids in the same millisecond, and
-- an enqueue would change what they draw next.
--
-- One expression with a body that was parsed when it was created: it needs no
-- search_path, and so becomes part of the statement that uses it.
--
-- Locks: none.   Time: clock_timestamp(): an id must not collide when a test has
-- shifted the clock back.
create or replace function new_id()
returns uuid
language sql
volatile
return encode(
    set_bit(set_bit(
        overlay(
            uuid_send(gen_random_uuid())
            placing substring(
                int8send((date_part('epoch', clock_timestamp()) * 1000)::bigint)
                from 3)
            from 1 for 6
        ), 52, 1), 53, 1),
    'hex')::uuid;

comment on function new_id() is 'A new UUIDv7.';
