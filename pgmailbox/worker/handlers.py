"""The handlers of a mailbox, by kind."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pgmailbox.config import as_timedelta, check_count, is_text
from pgmailbox.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta

    from pgmailbox.config import Duration


@dataclass(frozen=True, slots=True, kw_only=True)
class Handler:
    """A function for one kind of dispatch, and how it is to be run."""

    kind: str
    function: Callable[[Any], Any]
    """Takes a `HeldDispatch`, or a `Run` if ``carries_run``."""
    is_async: bool
    carries_run: bool
    timeout: timedelta | None
    max_attempts: int | None
    retry_delay: timedelta | None
    concurrency: int | None


class Handlers:
    """Handlers by kind; one each."""

    def __init__(self) -> None:
        self._by_kind: dict[str, Handler] = {}

    def __len__(self) -> int:
        return len(self._by_kind)

    @property
    def kinds(self) -> list[str]:
        """The kinds that can be handled."""
        return sorted(self._by_kind)

    @staticmethod
    def check_kind(kind: object) -> None:
        """Raise `InvalidArgument` for what is no kind: the function, where it was forgotten."""
        if not is_text(kind) or not kind:
            raise InvalidArgument(
                f"kind must be a text, and not empty, not {kind!r}", hint='@mailbox.handler("kind")'
            )

    def get(self, kind: str) -> Handler | None:
        """Return the handler of a kind, if there is one."""
        return self._by_kind.get(kind)

    def add(  # noqa: PLR0913 - the limits of a handler, by keyword
        self,
        kind: str,
        function: Callable[[Any], Any],
        *,
        carries_run: bool = False,
        timeout: Duration | None = None,
        max_attempts: int | None = None,
        retry_delay: Duration | None = None,
        concurrency: int | None = None,
    ) -> None:
        """Register a handler.

        Raises `InvalidArgument` for a kind that is empty or has a handler already, and for limits
        that make no sense.
        """
        self.check_kind(kind)
        if not callable(function):
            raise InvalidArgument(
                f"the handler of kind {kind!r} must be callable, not {function!r}"
            )
        if kind in self._by_kind:
            raise InvalidArgument(
                f"kind {kind!r} has a handler already",
                detail=f"it is {self._by_kind[kind].function!r}",
            )
        for name, value in (("max_attempts", max_attempts), ("concurrency", concurrency)):
            if value is not None:
                check_count(name, value, 1)
        is_async = _is_async(function)
        if carries_run and not is_async:
            raise InvalidArgument(
                f"the handler of runs of kind {kind!r} must be async",
                detail=f"it is {function!r}",
                hint="A run reads, appends and waits by awaiting.",
            )
        self._by_kind[kind] = Handler(
            kind=kind,
            function=function,
            is_async=is_async,
            carries_run=carries_run,
            timeout=None if timeout is None else as_timedelta("timeout", timeout, positive=True),
            max_attempts=max_attempts,
            retry_delay=None if retry_delay is None else as_timedelta("retry_delay", retry_delay),
            concurrency=concurrency,
        )


def _is_async(function: Callable[[Any], Any]) -> bool:
    """Tell whether a function, or an object that can be called, is async."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004
    )
