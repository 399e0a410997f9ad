"""Structured logs: events are ``noun.verb_past``, ids are bound, not formatted into the text."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger


def get_logger(room: str, **context: object) -> FilteringBoundLogger:
    """Return the logger of a room of the house; ``context`` is bound to all it says.

    How events are rendered and where they go is the application's structlog configuration.
    """
    logger: FilteringBoundLogger = structlog.get_logger("pgmailbox", room=room, **context)
    return logger
