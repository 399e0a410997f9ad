"""Claims dispatches, runs their handlers, keeps their leases and settles them.

Start with `worker`: it is the life of a dispatch in one process.
"""

from pgmailbox.worker.handlers import Handler, Handlers
from pgmailbox.worker.held_dispatch import HeldDispatch
from pgmailbox.worker.run import Run
from pgmailbox.worker.worker import Worker

__all__ = ["Handler", "Handlers", "HeldDispatch", "Run", "Worker"]
