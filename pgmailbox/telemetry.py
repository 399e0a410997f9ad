"""Structured logs: events are ``noun.verb_past``, ids are bound, not formatted into the text."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger


def get_logger(room: str) -> FilteringBoundLogger:
    """Return the logger of a room of the house.

    How events are rendered and where they go is the application's structlog configuration.
    """
    logger: FilteringBoundLogger = structlog.get_logger("pgmailbox", room=room)
    return logger


def in_full(error: BaseException) -> str:
    """Return an error with its traceback, as text for the log.

    A log is not handed the error itself: structlog renders that with the values of local variables
    where ``rich`` is installed, and with them the DSN that somebody has just connected to.
    """
    return "".join(traceback.format_exception(error)).rstrip()
