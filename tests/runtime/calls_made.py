"""What a process asks of its pool, as it happens."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from pgmailbox.store import Store

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import psycopg
    import pytest

    from pgmailbox.store import Call

    Before = Callable[[Call[Any]], None]
    After = Callable[[Call[Any], Any], Awaitable[None]]


class Calls:
    """The calls that stores make, in order.

    ``before`` sees each that is about to be made, ``after`` each with its answer; both may raise.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made: list[str] = []
        self.asked: list[int] = []
        """The server process that each was made to."""
        self.before: Before | None = None
        self.after: After | None = None
        run_over = Store.run_over

        async def noted(
            store: Store,
            connection: psycopg.AsyncConnection[Any],
            call: Call[Any],
            *,
            patience: float | None = None,
        ) -> Any:  # noqa: ANN401 - whatever the call answers
            self.made.append(call.function)
            self.asked.append(connection.info.backend_pid)
            if self.before is not None:
                self.before(call)
            answer = await run_over(store, connection, call, patience=patience)
            if self.after is not None:
                await self.after(call, answer)
            return answer

        monkeypatch.setattr(Store, "run_over", noted)

    def counted(self, *functions: str) -> Counter[str]:
        return Counter(function for function in self.made if function in functions)

    def sessions(self, *functions: str) -> set[int]:
        """Return the server processes that were asked for these."""
        made = zip(self.made, self.asked, strict=True)
        return {pid for function, pid in made if function in functions}
