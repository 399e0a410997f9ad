"""How the parts of a worker wake one another."""

from __future__ import annotations

import asyncio


class Bell:
    """An event that remembers one ring until it is heard."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def ring(self) -> None:
        """Wake whoever waits, or the next who will."""
        self._event.set()

    def forget(self) -> None:
        """Forget a ring that nobody has heard."""
        self._event.clear()

    async def heard(self, within: float | None) -> bool:
        """Wait for a ring, at most so many seconds. Returns whether there was one."""
        try:
            async with asyncio.timeout(within):
                await self._event.wait()
        except TimeoutError:
            return False
        self._event.clear()
        return True
