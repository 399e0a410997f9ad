"""Every way in which a command can fail: what is said on stderr, and the exit code.

    0  done
    1  the answer is "no": behind, not migrated, unknown, refused, out of order
    2  wrong usage: an option, an id, a payload, a name or a DSN that can never be right
    3  the database could not be reached

What is said is one line that names the thing, then detail and hint, each on a line of its own; no
traceback, and no password.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import click
import psycopg

from pgmailbox.errors import (
    EmbeddedServerError,
    InvalidArgument,
    PgMailboxError,
    Unavailable,
    from_psycopg,
)

if TYPE_CHECKING:
    from collections.abc import Callable

NO: Final = 1
USAGE: Final = 2
UNREACHABLE: Final = 3
_INTERRUPTED: Final = 130

# Connection trouble, bad credentials, no such database, too many connections, shutting down.
_AWAY: Final = re.compile(r"08|28|3D|53|57P")

_SECRETS: Final = re.compile(
    r"postgres[\w+.-]*://\S*"
    r"|(?:password|oauth_client_secret|scram_client_key)\s*=\s*(?:'(?:\\.|[^'\\])*'?|\S+)",
    re.IGNORECASE,
)
_HIDDEN: Final = "<not shown>"
_WHICH: Final = "Which database is said by --dsn, else PGMAILBOX_DSN, else libpq's own variables."


def guarded(command: Callable[[], object]) -> int:
    """Run a command, say what went wrong, and return the exit code."""
    try:
        outcome = command()
    except click.exceptions.Exit as leaving:
        return leaving.exit_code
    except (KeyboardInterrupt, click.Abort):
        return _INTERRUPTED
    except (click.ClickException, PgMailboxError, psycopg.Error) as error:
        return _tell(error)
    except UnicodeError as error:  # what the shell passed on is no text
        complain("an argument is not UTF-8", detail=str(error))
        return USAGE
    except OSError as error:  # the output cannot be written, say
        complain(str(error))
        return NO
    return outcome if isinstance(outcome, int) else 0


def complain(message: str, *, detail: str | None = None, hint: str | None = None) -> None:
    """Say on stderr what went wrong; of what looks like a DSN, wherever it was given, no word."""
    message, detail = _SECRETS.sub(_HIDDEN, message), _SECRETS.sub(_HIDDEN, detail or "")
    first, *rest = message.strip().splitlines() or ["unknown"]
    click.echo(f"error: {first}", err=True)
    details = [*rest, *detail.splitlines()]
    for line in filter(None, map(str.strip, details)):
        click.echo(f"detail: {line}", err=True)
    if hint:
        click.echo(f"hint: {hint}", err=True)


def _code(error: PgMailboxError) -> int:
    match error:
        case InvalidArgument():
            return USAGE
        case Unavailable() | EmbeddedServerError():
            return UNREACHABLE
        case _:
            return NO


def _tell(error: click.ClickException | PgMailboxError | psycopg.Error) -> int:
    """Say what went wrong, and return the exit code for it."""
    match error:
        case click.ClickException():
            complain(error.format_message(), hint=_usage_hint(error))
            return error.exit_code
        case PgMailboxError():
            complain(error.message, detail=error.detail, hint=error.hint)
            return _code(error)
        case _ if (ours := from_psycopg(error)) is not None:
            return _tell(ours)
        case _ if _is_away(error):
            complain("the database cannot be reached", detail=str(error), hint=_WHICH)
            return UNREACHABLE
        case _:
            return _tell_of_server(error)


def _tell_of_server(error: psycopg.Error) -> int:
    diag = error.diag
    message = diag.message_primary or str(error) or type(error).__name__
    complain(message, detail=diag.message_detail, hint=diag.message_hint or _remedy(error))
    return USAGE if isinstance(error, psycopg.DataError) else NO


def _is_away(error: psycopg.Error) -> bool:
    if error.sqlstate is not None:
        return _AWAY.match(error.sqlstate) is not None
    return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)


def _remedy(error: psycopg.Error) -> str | None:
    if isinstance(error, psycopg.errors.InsufficientPrivilege):
        return (
            "An administrator grants this login one of the schema's roles; to migrate wants the"
            " schema's owner, or CREATE on the database."
        )
    return None


def _usage_hint(error: click.ClickException) -> str | None:
    context = error.ctx if isinstance(error, click.UsageError) else None
    return f"{context.command_path} --help shows how." if context else None
