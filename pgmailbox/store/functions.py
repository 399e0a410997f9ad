"""The SQL functions, as Python calls. Does no input or output.

A `Call` is one statement with its parameters and the way to read its rows; an executor runs it. So
the asynchronous and the synchronous face say the same, written once.
"""

from __future__ import annotations

from pgmailbox.store.consuming import ConsumerFunctions
from pgmailbox.store.inspecting import OperatorFunctions
from pgmailbox.store.maintaining import MaintenanceFunctions
from pgmailbox.store.messaging import MessageFunctions
from pgmailbox.store.producing import ProducerFunctions
from pgmailbox.store.running import RunFunctions


class Functions(
    ProducerFunctions,
    ConsumerFunctions,
    MessageFunctions,
    RunFunctions,
    MaintenanceFunctions,
    OperatorFunctions,
):
    """All functions of one schema. Refuses a bad schema name (`InvalidArgument`)."""
