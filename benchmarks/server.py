"""The servers that all contenders share, one after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pgmailbox.binaries import available_servers, find_binaries
from pgmailbox.embedded import EmbeddedPostgres

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_SETTINGS: Final[Mapping[str, str]] = {
    # Durability as delivered: fsync, synchronous_commit and full_page_writes are on.
    # Room enough that a checkpoint falls into no run but the longest ones.
    "shared_buffers": "512MB",
    "max_wal_size": "16GB",
    "checkpoint_timeout": "1h",
    # Ten idle workers of every contender.
    "max_connections": "400",
}
_COUNTING: Final[Mapping[str, str]] = {
    "shared_preload_libraries": "pg_stat_statements",
    # What vacuum writes and removes at moments of its own would be counted as the queue's.
    "autovacuum": "off",
}


def timing_server(major: int | None) -> EmbeddedPostgres:
    """Return the server that everything is timed on."""
    return EmbeddedPostgres(find_binaries(major), settings=_SETTINGS)


def counting_server(major: int | None) -> EmbeddedPostgres:
    """Return the server that counts statements, WAL and dead tuples."""
    return EmbeddedPostgres(find_binaries(major), settings={**_SETTINGS, **_COUNTING})


def find_pgbench() -> Path | None:
    """Return the newest pgbench at hand."""
    programs = (bin_dir / "pgbench" for _, bin_dir in available_servers())
    return next((program for program in programs if program.is_file()), None)
