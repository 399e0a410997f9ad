"""A TCP proxy before a server, which can fall silent, hang up, or pass for a pooler."""

from __future__ import annotations

import asyncio
import re
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final

from psycopg.conninfo import conninfo_to_dict, make_conninfo

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

_CHUNK: Final = 65536
_KEY_DATA: Final = b"K\x00\x00\x00\x0c"


class Proxy:
    """Forwards connections to a server of this machine."""

    def __init__(self, target_port: int, *, as_pooler: bool = False) -> None:
        self._as_pooler = as_pooler
        self._target_port = target_port
        self._flowing = asyncio.Event()
        self._flowing.set()
        self.bytes_a_second = 0
        """How fast each connection is; 0 for as fast as can be."""
        self._dead: set[asyncio.Task[None]] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self.port = 0

    def fall_silent(self) -> None:
        """Forward nothing more of the connections that there are; take new ones as before."""
        self._dead |= self._tasks

    def freeze(self) -> None:
        """Forward nothing, on old connections and new ones, until `thaw`."""
        self._flowing.clear()

    def thaw(self) -> None:
        """Go on where it was."""
        self._flowing.set()

    async def hang_up(self) -> None:
        """Close every connection."""
        for writer in list(self._writers):
            writer.close()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward one connection, both ways."""
        try:
            upstream = await asyncio.open_connection("127.0.0.1", self._target_port)
        except OSError:
            writer.close()
            return
        self._writers |= {writer, upstream[1]}
        for source, sink in ((reader, upstream[1]), (upstream[0], writer)):
            task = asyncio.create_task(self._forward(source, sink))
            self._tasks.add(task)

    async def close(self) -> None:
        """End all that goes on."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*list(self._tasks), return_exceptions=True)
        for writer in list(self._writers):
            writer.close()
        for writer in list(self._writers):
            with suppress(OSError):
                await writer.wait_closed()

    async def _forward(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await source.read(_CHUNK):
                await self._flowing.wait()
                if asyncio.current_task() in self._dead:
                    await asyncio.Event().wait()
                sink.write(_disguised(data) if self._as_pooler else data)
                await sink.drain()
                if self.bytes_a_second:
                    await asyncio.sleep(len(data) / self.bytes_a_second)
        if asyncio.current_task() not in self._dead:
            sink.close()


def _disguised(data: bytes) -> bytes:
    """Make up the process number that a server gives its client (message BackendKeyData)."""
    return re.sub(_KEY_DATA + rb".{4}", _KEY_DATA + b"\x00\x00\x00\x01", data, flags=re.DOTALL)


@asynccontextmanager
async def proxied(dsn: str, *, as_pooler: bool = False) -> AsyncGenerator[tuple[Proxy, str]]:
    """Put a proxy before a server; yields it and the DSN that leads through it."""
    proxy = Proxy(int(str(conninfo_to_dict(dsn)["port"])), as_pooler=as_pooler)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy, make_conninfo(dsn, port=proxy.port)
    finally:
        server.close()
        await proxy.close()
