"""A PostgreSQL server of one's own, from whatever binaries are at hand: for demo and tests.

Not for production: everyone on this machine may log in to it (``trust``), though nobody from
outside can.

As root the server runs as an ordinary user, because PostgreSQL refuses to be root. When that user
cannot reach the binaries (a virtual environment below ``/root``) they are linked, or else copied,
into the server's own folder.
"""

from __future__ import annotations

import atexit
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, Literal, Self
from urllib.parse import quote

from pgmailbox.binaries import (
    available_servers,
    find_binaries,
    is_open_to_all,
    major_of,
    relocated,
)
from pgmailbox.errors import EmbeddedServerError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from types import TracebackType

__all__ = ["EmbeddedPostgres", "StopMode", "available_servers", "find_binaries", "major_of"]

StopMode = Literal["fast", "immediate"]

_SIGNALS: Final[Mapping[StopMode, signal.Signals]] = {
    "fast": signal.SIGINT,
    "immediate": signal.SIGQUIT,
}
_UNPRIVILEGED: Final = ("postgres", "nobody", "daemon")
_START_SECONDS: Final = 60.0
_STOP_SECONDS: Final = 60.0
_SOCKET_PATH_MAX: Final = 100  # the kernel's limit is 107 on Linux and 103 on macOS

# Ends the server when this process has died without a word: the pipe's other end closes then.
_TETHER: Final = 'read -r _; kill -s QUIT "$1"; sleep 1; rm -rf "$2"'


class EmbeddedPostgres:
    """One PostgreSQL server, on a free port of 127.0.0.1 and on a socket of its own.

    ``with EmbeddedPostgres() as server: psycopg.connect(server.dsn)``. Without ``data_dir`` the
    cluster is thrown away by `close`; with it, it is made on first use and kept. ``settings`` are
    configuration parameters. Port and paths stay the same over `stop`, `start` and `restart`.

    The server ends with this process, however that ends.
    """

    def __init__(
        self,
        bin_dir: Path | None = None,
        *,
        data_dir: Path | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.bin_dir = bin_dir or find_binaries()
        self.settings = dict(settings or {})
        self._own_data_dir = data_dir.resolve() if data_dir else None
        self._account = _unprivileged_account() if os.geteuid() == 0 else None
        self._base: Path | None = None
        self._programs = self.bin_dir
        self._port = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._tether: subprocess.Popen[bytes] | None = None
        self._starter = 0

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def major(self) -> int:
        """The server's major version."""
        return major_of(self.bin_dir)

    @property
    def port(self) -> int:
        """The port, for TCP and in the socket's name."""
        return self._port

    @property
    def dsn(self) -> str:
        """The DSN of database ``postgres``, as its superuser, over the socket."""
        return (
            f"postgresql://postgres@/postgres?host={quote(str(self._socket_dir))}&port={self._port}"
        )

    @property
    def tcp_dsn(self) -> str:
        """The same over TCP."""
        return f"postgresql://postgres@127.0.0.1:{self._port}/postgres"

    @property
    def data_dir(self) -> Path:
        """The data directory."""
        return self._own_data_dir or self._folder / "data"

    @property
    def log(self) -> str:
        """What the server has logged so far."""
        path = self._folder / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    @property
    def pid(self) -> int | None:
        """The postmaster's process id while it runs."""
        return self._process.pid if self.is_running and self._process else None

    @property
    def is_running(self) -> bool:
        """Whether the postmaster lives."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> Self:
        """Start the server and return when it accepts connections; nothing if it runs already.

        Raises `EmbeddedServerError`, with the end of the log, when it does not come up.
        """
        if self.is_running:
            return self
        if self._base is None:
            self._furnish()
        self._starter = os.getpid()
        self._launch()
        try:
            self._await_ready()
        except BaseException:
            self.stop("immediate")
            raise
        return self

    def stop(self, mode: StopMode = "fast") -> None:
        """Stop the server: ``fast`` ends sessions and checkpoints, ``immediate`` is a crash.

        Data stays; `start` brings it back (after ``immediate``, through recovery).
        """
        if self._process is not None:
            _end(self._process, _SIGNALS[mode])
            self._process = None
        if self._tether is not None:
            _untie(self._tether)
            self._tether = None

    def restart(self, mode: StopMode = "fast") -> None:
        """Stop in that way, and start again."""
        self.stop(mode)
        self.start()

    def close(self) -> None:
        """Stop the server and remove everything but a data directory that was given.

        Does nothing in a forked child: the server belongs to the process that started it.
        """
        if self._starter not in (0, os.getpid()):
            return
        atexit.unregister(self.close)
        self.stop("fast" if self._own_data_dir else "immediate")
        if self._base is not None:
            shutil.rmtree(self._base, ignore_errors=True)
            self._base = None

    # --- making ---

    @property
    def _folder(self) -> Path:
        if self._base is None:
            raise EmbeddedServerError("the server has not been started")
        return self._base

    @property
    def _socket_dir(self) -> Path:
        return self._folder / "s"

    def _furnish(self) -> None:
        """Make the folder, the binaries that can be reached, the port and the cluster."""
        self._base = _make_base()
        atexit.register(self.close)
        self._port = _free_port()
        self._programs = self._reachable_binaries()
        self._give_away(self._socket_dir)
        if not (self.data_dir / "PG_VERSION").exists():
            self._give_away(self.data_dir)
            self._initialise()

    def _reachable_binaries(self) -> Path:
        if self._account is None:
            return self.bin_dir
        self._folder.chmod(0o755)
        if is_open_to_all(self.bin_dir / "postgres"):
            return self.bin_dir
        return relocated(self.bin_dir, self._folder / "binaries")

    def _give_away(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
        if self._account is not None:
            os.chown(folder, self._account.pw_uid, self._account.pw_gid)

    def _initialise(self) -> None:
        command: list[str | Path] = [
            self._programs / "initdb",
            *("--pgdata", self.data_dir),
            *("--username", "postgres"),
            *("--auth", "trust"),
            # The one locale that every build and every machine has.
            *("--locale", "C", "--encoding", "UTF8"),
            *("--no-sync", "--no-instructions"),
        ]
        with self._run(command, stdout=subprocess.PIPE) as process:
            told, _ = process.communicate()
        if process.returncode != 0:
            raise EmbeddedServerError(
                f"initdb failed in {self.data_dir}", detail=told.decode(errors="replace")
            )

    def _run(
        self, command: Sequence[str | Path], *, stdout: int | IO[bytes]
    ) -> subprocess.Popen[bytes]:
        """Start one of the server's programs: as whom, where and in what environment it must be."""
        env = {key: value for key, value in os.environ.items() if not key.startswith("PG")}
        # A session of its own: Ctrl-C in the terminal is for us, not for the server.
        return subprocess.Popen(  # noqa: S603 - our own arguments
            command,
            cwd=self._folder,
            env={**env, "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            user=self._account.pw_uid if self._account else None,
            group=self._account.pw_gid if self._account else None,
            extra_groups=[] if self._account else None,
        )

    # --- running ---

    def _launch(self) -> None:
        command: list[str | Path] = [
            self._programs / "postgres",
            *("-D", self.data_dir),
            *("-k", self._socket_dir),
            *("-p", str(self._port)),
            *("-c", "listen_addresses=127.0.0.1"),
        ]
        for name, value in self.settings.items():
            command += ["-c", f"{name}={value}"]
        with (self._folder / "log").open("ab") as log:
            self._process = self._run(command, stdout=log)
        self._tether = _tie(self._process, self._folder)

    def _await_ready(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while not self._is_ready():
            if not self.is_running or time.monotonic() > deadline:
                raise EmbeddedServerError(
                    f"PostgreSQL did not start from {self.data_dir}", detail=self.log[-2000:]
                )
            time.sleep(0.02)

    def _is_ready(self) -> bool:
        """Ask the last line of postmaster.pid, as pg_ctl does."""
        try:
            lines = (self.data_dir / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        pid = str(self._process.pid) if self._process else ""
        return len(lines) == 8 and lines[0] == pid and lines[7].strip() == "ready"


# --- its surroundings -----------------------------------------------------------------------


def _unprivileged_account() -> pwd.struct_passwd:
    """Return whom the server runs as when we are root; initdb wants one that has a name."""
    for name in _UNPRIVILEGED:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise EmbeddedServerError(
        "PostgreSQL does not run as root, and there is no other user",
        detail=f"looked for {', '.join(_UNPRIVILEGED)}",
        hint="Run this as an ordinary user.",
    )


def _make_base() -> Path:
    """Make the server's folder where others can reach it and a socket's path is not too long."""
    candidates: Iterable[Path] = (Path(tempfile.gettempdir()), Path("/tmp"))  # noqa: S108
    for parent in candidates:
        fits = len(str(parent)) + len("/pgmailbox-xxxxxxxx/s/.s.PGSQL.65535") < _SOCKET_PATH_MAX
        if fits and parent.is_dir() and (os.geteuid() != 0 or is_open_to_all(parent)):
            return Path(tempfile.mkdtemp(prefix="pgmailbox-", dir=parent))
    raise EmbeddedServerError(
        "no temporary folder is fit for a server",
        detail=f"tried {', '.join(str(parent) for parent in candidates)}",
        hint="Set TMPDIR to a short path that other users may enter.",
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _end(process: subprocess.Popen[bytes], how: signal.Signals) -> None:
    if process.poll() is None:
        process.send_signal(how)
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _tie(process: subprocess.Popen[bytes], folder: Path) -> subprocess.Popen[bytes]:
    """Start the watcher that ends the server, and removes its folder, should we die."""
    return subprocess.Popen(  # noqa: S603 - our own arguments
        ["/bin/sh", "-c", _TETHER, "sh", str(process.pid), folder],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _untie(tether: subprocess.Popen[bytes]) -> None:
    tether.kill()
    tether.wait()
    if tether.stdin is not None:
        tether.stdin.close()
