"""A durable mailbox for every thread of an application, inside its own PostgreSQL.

The public names; everything else is a room of the house and may change.
"""

from pgmailbox.config import LifecycleConfig, MailboxConfig
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
from pgmailbox.lifecycle import Lifecycle
from pgmailbox.mailbox import Mailbox
from pgmailbox.messages import (
    Command,
    Message,
    PendingMessage,
    RunRecord,
    Submission,
    WaitingReason,
)
from pgmailbox.models import (
    Dispatch,
    DispatchStatus,
    Event,
    GcReport,
    Interrupt,
    Reason,
    StatusCount,
    SweepReport,
)
from pgmailbox.outcomes import DeadLetter, Retry, Snooze
from pgmailbox.recovery import RecoveryReport
from pgmailbox.store import EnqueueRequest
from pgmailbox.sync_mailbox import SyncMailbox
from pgmailbox.worker import HeldDispatch, Run

__all__ = [
    "AlreadyConsumed",
    "AlreadyExists",
    "BlockedByBarrier",
    "ClaimLost",
    "Command",
    "DeadLetter",
    "Dispatch",
    "DispatchStatus",
    "DuplicateKey",
    "EmbeddedServerError",
    "EnqueueRequest",
    "Event",
    "GcReport",
    "HeldDispatch",
    "Interrupt",
    "InvalidArgument",
    "Lifecycle",
    "LifecycleBusy",
    "LifecycleConfig",
    "Mailbox",
    "MailboxConfig",
    "MailboxFull",
    "Message",
    "MigrationError",
    "NotFound",
    "PendingMessage",
    "PgMailboxError",
    "Reason",
    "RecoveryReport",
    "Refused",
    "Retry",
    "Run",
    "RunRecord",
    "SchemaMismatch",
    "Snooze",
    "StatusCount",
    "Submission",
    "SweepReport",
    "SyncMailbox",
    "ThreadBusy",
    "Unavailable",
    "VersionConflict",
    "WaitingReason",
]
