"""Install the peers, each for itself, into a cache outside the project.

A peer that cannot be installed is left out, and the table says why: never silently.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks.contenders import NODE, Installed, pgmailbox_itself

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from benchmarks.contenders import Contender

_LEAST_NODE: Final = 22
_INSTALL_SECONDS: Final = 600


class NotInstalled(RuntimeError):  # noqa: N818 - it is a state, and nobody's mistake
    """A peer is not to be had on this machine; the text says why."""


def default_cache() -> Path:
    """Return where peers are kept unless --cache says otherwise."""
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(caches) / "pgmailbox-benchmarks"


def install_all(
    contenders: Iterable[Contender], cache: Path, tell: Callable[[str], None]
) -> tuple[list[Installed], dict[str, str]]:
    """Install those contenders; return them, and why others are missing, by name."""
    found: list[Installed] = []
    missing: dict[str, str] = {}
    for contender in contenders:
        try:
            found.append(_installed(contender, cache, tell))
        except NotInstalled as error:
            missing[contender.name] = str(error)
            tell(f"left out: {contender.name}: {error}")
    return found, missing


def _installed(contender: Contender, cache: Path, tell: Callable[[str], None]) -> Installed:
    if contender.is_pgmailbox:
        return pgmailbox_itself()
    pins = contender.python_packages or contender.node_packages
    # The folder's name holds the pins, so that a changed pin is a new folder.
    folder = cache / re.sub(r"[^\w.@=-]+", "_", "+".join(pins))
    install = _install_python if contender.python_packages else _install_node
    if not (folder / "complete").exists():
        tell(f"installing {contender.name} into {folder}")
        shutil.rmtree(folder, ignore_errors=True)
        install(folder, pins)
        (folder / "complete").touch()
    if contender.python_packages:
        return Installed(contender, folder / "bin" / "python", {})
    return Installed(contender, _node_for(folder), {"BENCH_MODULES": str(folder)})


# --- Python ---------------------------------------------------------------------------------


def _install_python(folder: Path, pins: tuple[str, ...]) -> None:
    _run((sys.executable, "-m", "venv", folder))
    pip = (folder / "bin" / "python", "-m", "pip", "--quiet", "--disable-pip-version-check")
    _run((*pip, "install", *pins))


# --- Node -----------------------------------------------------------------------------------


def _install_node(folder: Path, pins: tuple[str, ...]) -> None:
    """Install with whatever npm there is; with Node itself where the machine's is too old."""
    folder.mkdir(parents=True)
    (folder / "package.json").write_text('{"private": true}')
    packages = pins if _machine_node() else (*pins, NODE)
    npm = (_npm(), "install", "--prefix", folder, "--no-audit", "--no-fund", "--loglevel", "error")
    _run((*npm, *packages))
    if not _machine_node() and _major_of_node(_packaged_node(folder)) < _LEAST_NODE:
        raise NotInstalled(f"there is no Node {_LEAST_NODE}, and {NODE} does not run here")


def _node_for(folder: Path) -> Path:
    return _machine_node() or _packaged_node(folder)


def _packaged_node(folder: Path) -> Path:
    return folder / "node_modules" / "node" / "bin" / "node"


def _machine_node() -> Path | None:
    """Return the machine's Node when it is new enough."""
    found = shutil.which("node")
    return Path(found) if found and _major_of_node(Path(found)) >= _LEAST_NODE else None


def _major_of_node(node: Path) -> int:
    try:
        told = subprocess.run([node, "--version"], capture_output=True, text=True, check=False)
    except OSError:
        return 0
    match = re.match(r"v(\d+)", told.stdout)
    return int(match.group(1)) if match else 0


def _npm() -> str:
    found = shutil.which("npm")
    if found is None:
        raise NotInstalled("there is no npm on the PATH")
    return found


def _run(command: Sequence[str | Path]) -> None:
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_INSTALL_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotInstalled(str(error)) from error
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines() or ["no word"]
        reason = re.sub(r"\S+://\S+", "(an address)", said[-1])  # whose mirror is nobody's business
        raise NotInstalled(f"{Path(command[0]).name} ended with {done.returncode}: {reason}")
