-- 0013_code_version: which version of pgmailbox brought the functions.
--
-- A process of the old version that starts during a deployment, and migrates as all of
-- them do, must not put its functions in the place of newer ones.
--
-- Locks: repeatable, which migrations alone write.   Time: none.

alter table repeatable add column version text;

comment on column repeatable.version is
    'The version of pgmailbox whose functions these are; null when it did not say.';
