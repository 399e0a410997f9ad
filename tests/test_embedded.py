from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from pgmailbox import binaries, embedded
from pgmailbox.binaries import find_binaries
from pgmailbox.embedded import EmbeddedPostgres
from pgmailbox.errors import EmbeddedServerError
from tests.sessions import wait_until

if TYPE_CHECKING:
    from collections.abc import Generator

STARTS_A_SERVER = """
import sys
from pgmailbox.binaries import find_binaries
from pgmailbox.embedded import EmbeddedPostgres
server = EmbeddedPostgres(find_binaries()).start()
print(server.pid, server.data_dir.parent, flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def bin_dir(pytestconfig: pytest.Config) -> Path:
    return find_binaries(pytestconfig.getoption("--pg-major"))


@pytest.fixture
def open_folder() -> Generator[Path]:
    """A folder that every user may enter; those that pytest makes are its user's alone."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        path.chmod(0o755)
        yield path


def is_alive(pid: int) -> bool:
    """Tell whether the process lives; one that nobody has reaped does not."""
    told = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, check=False)
    return bool(told.stdout.strip()) and not told.stdout.startswith(b"Z")


def test_both_doors_lead_to_the_same_server(bin_dir: Path) -> None:
    with EmbeddedPostgres(bin_dir, settings={"work_mem": "7MB"}) as server:
        for dsn in (server.dsn, server.tcp_dsn):
            with psycopg.connect(dsn) as connection:
                row = connection.execute("select current_setting('work_mem')").fetchone()
                assert row == ("7MB",)
                assert connection.info.server_version // 10000 == server.major


def test_what_was_committed_survives_a_crash_at_the_same_address(bin_dir: Path) -> None:
    with EmbeddedPostgres(bin_dir) as server:
        dsn = server.dsn
        with psycopg.connect(dsn) as connection:
            connection.execute("create table kept as select 1")
        server.restart("immediate")
        assert server.dsn == dsn
        with psycopg.connect(dsn) as connection:
            assert connection.execute("select * from kept").fetchone() == (1,)


def test_a_data_directory_that_was_given_is_kept(bin_dir: Path, open_folder: Path) -> None:
    data = open_folder / "data"
    with (
        EmbeddedPostgres(bin_dir, data_dir=data) as server,
        psycopg.connect(server.dsn) as connection,
    ):
        connection.execute("create table kept as select 1")
    with (
        EmbeddedPostgres(bin_dir, data_dir=data) as server,
        psycopg.connect(server.dsn) as connection,
    ):
        assert connection.execute("select * from kept").fetchone() == (1,)


def test_a_server_that_does_not_start_says_why(bin_dir: Path) -> None:
    server = EmbeddedPostgres(bin_dir, settings={"no_such_setting": "1"})
    with pytest.raises(EmbeddedServerError) as caught:
        server.start()
    server.close()
    assert "no_such_setting" in (caught.value.detail or "")


@pytest.mark.parametrize("how", [signal.SIGKILL, None])
def test_the_server_does_not_outlive_the_process_that_started_it(
    how: signal.Signals | None,
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", STARTS_A_SERVER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        pid, folder = process.stdout.readline().split()
        assert is_alive(int(pid))
        if how is not None:
            process.send_signal(how)
    wait_until(lambda: not is_alive(int(pid)))
    wait_until(lambda: not Path(folder).exists())


def test_without_binaries_the_hint_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binaries, "available_servers", list)
    with pytest.raises(EmbeddedServerError) as caught:
        find_binaries()
    assert "pgmailbox[demo]" in (caught.value.hint or "")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root changes into another user")
def test_as_root_binaries_out_of_reach_are_brought_within_it(
    bin_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "is_open_to_all", lambda path: path.name != "postgres")
    if not bin_dir.parent.name.startswith("pginstall"):
        pytest.skip("the machine's own binaries are always within reach")
    with EmbeddedPostgres(bin_dir) as server, psycopg.connect(server.dsn) as connection:
        row = connection.execute("select pg_catalog.current_setting('data_directory')").fetchone()
        assert row == (str(server.data_dir),)
