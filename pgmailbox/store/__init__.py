"""The only room, besides the migrator, that calls the SQL functions.

    calls        what a `Call` is
    producing, consuming, messaging, running, maintaining, inspecting
                 what each function is given, and how its answer is read
    functions    all of them, for one schema
    executors    carry a call out; blocking: without an event loop; pipelines: many in a row
    combining    makes one call of what several tasks enqueue at the same moment
    documents, requests, batches, claims
                 how values get into a call, and out of its rows
    connections, cursors, watch
                 how connections of our own are made, anybody's are used, and silent ones given up

Every transition of a dispatch is one of these calls: nothing here changes a table.
"""

from pgmailbox.store.batches import Enqueued
from pgmailbox.store.blocking import BlockingStore, CallRunner, SyncStore, without_loop
from pgmailbox.store.calls import Call
from pgmailbox.store.combining import Combiner
from pgmailbox.store.cursors import check_connection, check_encoding
from pgmailbox.store.documents import to_jsonb
from pgmailbox.store.executors import PATIENCE, Session, Store
from pgmailbox.store.functions import Functions
from pgmailbox.store.pipelines import run_all, run_all_sync
from pgmailbox.store.requests import NOTHING, EnqueueRequest

__all__ = [
    "NOTHING",
    "PATIENCE",
    "BlockingStore",
    "Call",
    "CallRunner",
    "Combiner",
    "EnqueueRequest",
    "Enqueued",
    "Functions",
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
