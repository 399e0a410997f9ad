"""Finds the mailbox that a worker is to run: ``MODULE:MAILBOX``."""

from __future__ import annotations

import importlib
import re
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from pgmailbox.mailbox import Mailbox

if TYPE_CHECKING:
    from types import ModuleType

_TARGET: Final = re.compile(r"(?P<module>[^\W\d]\w*(\.[^\W\d]\w*)*):(?P<name>[^\W\d]\w*)")


def load_mailbox(target: str) -> Mailbox:
    """Import the module, with the current directory on the path, and return its mailbox.

    Raises a usage error that says which part of the target is wrong.
    """
    match = _TARGET.fullmatch(target)
    if match is None:
        raise _wrong(f"{target!r} is not MODULE:MAILBOX, as in myapp.mail:mailbox")
    module = _imported(match["module"])
    found = getattr(module, match["name"], None)
    if not isinstance(found, Mailbox):
        there = "there is none" if found is None else f"it is {type(found).__name__}"
        raise _wrong(f"{target} is no Mailbox: {there}{_offer(module)}")
    if not len(found.handlers):
        raise _wrong(f"{target} has no handlers; register some with @{match['name']}.handler(kind)")
    return found


def _imported(name: str) -> ModuleType:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the application's code may raise anything
        raise _wrong(f"cannot import {name}: {_described(error)}") from None


def _described(error: BaseException) -> str:
    """Say what an import failed with, and where; no traceback."""
    said = f"{type(error).__name__}: {error}"
    if isinstance(error, ModuleNotFoundError):
        return f"{error} (looked in {Path.cwd()} and where Python looks)"
    frames = traceback.extract_tb(error.__traceback__)
    where = frames[-1] if frames else None
    return f"{said} ({where.filename}:{where.lineno})" if where else said


def _offer(module: ModuleType) -> str:
    mailboxes = [name for name, value in vars(module).items() if isinstance(value, Mailbox)]
    return f"; {module.__name__} has {', '.join(mailboxes)}" if mailboxes else ""


def _wrong(message: str) -> click.BadParameter:
    return click.BadParameter(message, param_hint="MODULE:MAILBOX")
