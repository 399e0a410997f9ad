-- 0001_bookkeeping: what was migrated, when and by whom.
--
-- Written by the migrator alone, which is the one caller that cannot go through a
-- function: the functions are what it installs.
--
-- Locks: the migration's advisory lock.   Time: now(); clock() is not there yet.

create table migration (
    version integer not null,
    name text not null,
    checksum text not null,
    applied_at timestamptz not null default now(),
    applied_by text not null default session_user,

    constraint migration_pkey primary key (version),
    constraint migration_version_positive_check check (version > 0)
);

comment on table migration is
    'The numbered migrations that this schema has been through, one row each.';
comment on column migration.version is 'The number of the file in sql/migrations.';
comment on column migration.name is 'The rest of the file''s name.';
comment on column migration.checksum is
    'SHA-256 of the file, in hex. A file that changed after it was applied is refused.';
comment on column migration.applied_at is 'When the migration''s transaction began.';
comment on column migration.applied_by is 'The login that migrated.';

create table repeatable (
    only_row boolean not null default true,
    digest text not null,
    test_clock boolean not null,
    applied_at timestamptz not null default now(),
    applied_by text not null default session_user,

    constraint repeatable_pkey primary key (only_row),
    constraint repeatable_only_row_check check (only_row)
);

comment on table repeatable is
    'The state of functions, views and roles, which are applied again whenever their '
    'text changed.';
comment on column repeatable.only_row is 'Always true: there is one row at most.';
comment on column repeatable.digest is
    'SHA-256 over the names and texts of all functions, views and roles.sql, in hex.';
comment on column repeatable.test_clock is
    'Whether clock() adds the setting pgmailbox.clock_offset. Never so outside of '
    'tests.';
comment on column repeatable.applied_at is 'When they were last applied.';
comment on column repeatable.applied_by is 'The login that applied them.';
