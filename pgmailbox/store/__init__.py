"""The only room, besides the migrator, that speaks to the database.

`functions` says what the SQL functions are called and what they answer, without doing anything;
`executors` does it, on an event loop or without one, `pipelines` does many at a time, and
`combining` makes one call of several. Every transition of a dispatch is one of these calls: nothing
here changes a table.
"""

from pgmailbox.store.batches import Enqueued
from pgmailbox.store.calls import Call
from pgmailbox.store.combining import Combiner
from pgmailbox.store.documents import to_jsonb
from pgmailbox.store.executors import (
    PATIENCE,
    BlockingStore,
    Runs,
    Session,
    Store,
    SyncStore,
    check_connection,
    check_encoding,
    without_loop,
)
from pgmailbox.store.functions import Functions
from pgmailbox.store.pipelines import run_all, run_all_sync
from pgmailbox.store.requests import NOTHING, EnqueueRequest

__all__ = [
    "NOTHING",
    "PATIENCE",
    "BlockingStore",
    "Call",
    "Combiner",
    "EnqueueRequest",
    "Enqueued",
    "Functions",
    "Runs",
    "Session",
    "Store",
    "SyncStore",
    "check_connection",
    "check_encoding",
    "run_all",
    "run_all_sync",
    "to_jsonb",
    "without_loop",
]
