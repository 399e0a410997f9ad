-- new_id: a UUIDv7 (RFC 9562, section 5.7): 48 bits of milliseconds, then random bits.
--
-- PostgreSQL 18 has one of its own called uuidv7; ours has another name so that neither
-- shadows the other, and works on every supported major. 7 (0111) goes before the
-- twelve bits that share a word with the time, the variant (10) before the other 62.
--
-- Unique, not secret: random() is seeded for each session from the system's random
-- bytes, and costs a microsecond where those would cost a system call each time (in a
-- server without OpenSSL, opening /dev/urandom). What must not be guessed is the claim
-- token; take has that from gen_random_uuid().
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
    int8send(
        (date_part('epoch', clock_timestamp()) * 1000)::bigint << 16
        | (7 << 12)
        | (random() * 4095)::bigint)
    || int8send(
        -9223372036854775808
        | ((random() * 2147483647)::bigint << 31)
        | (random() * 2147483647)::bigint),
    'hex')::uuid;

comment on function new_id() is 'A new UUIDv7.';
