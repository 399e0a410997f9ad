"""A durable mailbox for every thread of an application, inside its own PostgreSQL.

The public names; everything else is a room of the house and may change.
"""

from pgmailbox.errors import (
    AlreadyConsumed,
    AlreadyExists,
    BlockedByBarrier,
    ClaimLost,
    DuplicateKey,
    EmbeddedServerError,
    InvalidArgument,
    LifecycleBusy,
    MailboxFull,
    MigrationError,
    NotFound,
    PgMailboxError,
    Refused,
    SchemaMismatch,
    ThreadBusy,
    Unavailable,
    VersionConflict,
)

__all__ = [
    "AlreadyConsumed",
    "AlreadyExists",
    "BlockedByBarrier",
    "ClaimLost",
    "DuplicateKey",
    "EmbeddedServerError",
    "InvalidArgument",
    "LifecycleBusy",
    "MailboxFull",
    "MigrationError",
    "NotFound",
    "PgMailboxError",
    "Refused",
    "SchemaMismatch",
    "ThreadBusy",
    "Unavailable",
    "VersionConflict",
]
