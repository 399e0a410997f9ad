-- schema_version: which version of pgmailbox this schema is at.
--
-- One row. A view for people, and the one thing that the runtime reads before it trusts
-- the rest.

create or replace view schema_version as
select
    m.version,
    m.name,
    m.applied_at as migrated_at,
    r.digest as functions_digest,
    r.applied_at as functions_applied_at,
    coalesce(r.test_clock, false) as test_clock,
    r.version as functions_version
from migration as m
left join repeatable as r on r.only_row
where m.version = (select max(newest.version) from migration as newest);

comment on view schema_version is
    'The version of pgmailbox that this schema is at: one row.';
comment on column schema_version.version is 'The newest numbered migration.';
comment on column schema_version.name is 'Its name.';
comment on column schema_version.migrated_at is 'When it was applied.';
comment on column schema_version.functions_digest is
    'SHA-256 over functions, views and roles, in hex: equal digests, equal behaviour.';
comment on column schema_version.functions_applied_at is
    'When those were last applied.';
comment on column schema_version.test_clock is
    'True when clock() can be shifted. Such a schema is for tests alone.';
comment on column schema_version.functions_version is
    'Of which version of pgmailbox those are.';
