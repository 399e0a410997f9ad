"""Every error that pgmailbox raises, in one tree; what psycopg raises passes through as it is.

    PgMailboxError
    ├── Refused                the database looked, and said no; nothing has changed
    │   ├── AlreadyExists      PM001  the id is taken: done before, or choose another
    │   ├── DuplicateKey       PM002  live work has this dedupe key: let it do the job
    │   ├── ClaimLost          PM003  no longer yours: abandon the work, its owner redoes it
    │   ├── NotFound           PM004  no such dispatch, thread, run or message
    │   ├── InvalidArgument    PM005  mend the call (the client raises it too, before it asks)
    │   ├── VersionConflict    PM006  someone was faster: read again, decide again
    │   ├── AlreadyConsumed    PM007  a run has read the message: too late to change it
    │   ├── BlockedByBarrier   PM008  a barrier stands before it: wait for the run to end
    │   ├── SchemaMismatch     PM009  database and code differ: migrate, or deploy
    │   ├── ThreadBusy         PM010  the thread is at work and the call asked not to wait
    │   └── MailboxFull        PM011  the thread has reached its limit: try later, or shed
    ├── LifecycleBusy          someone else starts or stops this mailbox: wait for it
    ├── Unavailable            the database cannot be reached: nothing was sent, try again
    ├── MigrationError         a file of the schema was not accepted: nothing was migrated
    └── EmbeddedServerError    no server of our own could be found or started

The names are README's words and stand for states, not for mishaps, so they carry no suffix.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

import psycopg
import psycopg_pool

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType


class PgMailboxError(Exception):
    """The root: ``except PgMailboxError`` catches all that is ours.

    ``message`` is one line that names the thing, ``detail`` holds the values, ``hint`` the remedy;
    the latter two may be None.
    """

    def __init__(self, message: str, *, detail: str | None = None, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.detail = detail
        self.hint = hint

    def __str__(self) -> str:
        lines = [self.message]
        if self.detail:
            lines.append(f"DETAIL: {self.detail}")
        if self.hint:
            lines.append(f"HINT: {self.hint}")
        return "\n".join(lines)


class Refused(PgMailboxError):  # noqa: N818 - see the module's docstring
    """The database refused the call with an SQLSTATE of class PM, and changed nothing.

    Raised itself only for a code that this version does not know (a newer schema).
    """

    sqlstate: str = "PM000"


class AlreadyExists(Refused):
    """The id that the caller brought is taken, by live or by finished work."""

    sqlstate = "PM001"


class DuplicateKey(Refused):
    """Live work with this dedupe key exists on the thread (or on the queue, without one)."""

    sqlstate = "PM002"


class ClaimLost(Refused):
    """Wrong or missing token, not claimed, or an epoch that an interrupt has ended.

    Abandon the work and write nothing more: whoever owns it now does it again.
    """

    sqlstate = "PM003"


class NotFound(Refused):
    """There is no dispatch, thread, run or message of that id."""

    sqlstate = "PM004"


class InvalidArgument(Refused):
    """An argument that can never be right; the message names it."""

    sqlstate = "PM005"


class VersionConflict(Refused):
    """The revision that the caller saw is no longer the current one."""

    sqlstate = "PM006"


class AlreadyConsumed(Refused):
    """The message has been read by a run and cannot change any more."""

    sqlstate = "PM007"


class BlockedByBarrier(Refused):
    """A barrier in the pending queue stands in the way."""

    sqlstate = "PM008"


class SchemaMismatch(Refused):
    """The schema in the database is not one that this version can work with."""

    sqlstate = "PM009"


class ThreadBusy(Refused):
    """The thread has a claimed dispatch and the caller asked to be told, not queued."""

    sqlstate = "PM010"


class MailboxFull(Refused):
    """The thread's pending queue has reached its limit."""

    sqlstate = "PM011"


class LifecycleBusy(PgMailboxError):  # noqa: N818 - see the module's docstring
    """Another caller is just starting or stopping this mailbox's lifecycle."""


class Unavailable(PgMailboxError):  # noqa: N818 - see the module's docstring
    """The database cannot be reached, so nothing was sent.

    A connection that breaks during a call raises psycopg's `OperationalError` instead: the call may
    or may not have been carried out.
    """


class MigrationError(PgMailboxError):
    """A file of the schema failed, or the schema holds what no file accounts for.

    The migration's transaction was rolled back. ``path`` (below ``sql/``), ``line`` (from 1) and
    ``sqlstate`` say where and what, as far as that is known.
    """

    def __init__(  # noqa: PLR0913 - keyword-only data, nothing to decide
        self,
        message: str,
        *,
        detail: str | None = None,
        hint: str | None = None,
        path: str | None = None,
        line: int | None = None,
        sqlstate: str | None = None,
    ) -> None:
        super().__init__(message, detail=detail, hint=hint)
        self.path = path
        self.line = line
        self.sqlstate = sqlstate


class EmbeddedServerError(PgMailboxError):
    """No server binaries were found, or the server did not start; the detail is its log."""


CLASS_BY_SQLSTATE: Final[Mapping[str, type[Refused]]] = {
    error.sqlstate: error
    for error in (
        AlreadyExists,
        DuplicateKey,
        ClaimLost,
        NotFound,
        InvalidArgument,
        VersionConflict,
        AlreadyConsumed,
        BlockedByBarrier,
        SchemaMismatch,
        ThreadBusy,
        MailboxFull,
    )
}


def from_psycopg(error: psycopg.Error) -> Refused | None:
    """Return our error for a psycopg one whose SQLSTATE is of class PM, or None for any other.

    psycopg does not know the class, so such an error arrives as a plain `psycopg.DatabaseError`
    with its ``sqlstate`` intact.
    """
    sqlstate = error.sqlstate
    if sqlstate is None or not sqlstate.startswith("PM"):
        return None
    diag = error.diag
    ours = CLASS_BY_SQLSTATE.get(sqlstate, Refused)(
        diag.message_primary or str(error), detail=diag.message_detail, hint=diag.message_hint
    )
    ours.sqlstate = sqlstate
    return ours


class translated:  # noqa: N801 - read as a phrase: with translated(): ...
    """Let errors of class PM leave the block as ours, with psycopg's as the cause.

    A plain context manager, and so usable around ``await`` too. A class because it stands around
    every call: a generator would cost three times as much.
    """

    __slots__: ClassVar[tuple[str, ...]] = ()

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        if isinstance(error, psycopg.Error):
            ours = from_psycopg(error)
            if ours is not None:
                raise ours from error


# --- what an error asks of who gets it ---------------------------------------------------------

# Connection lost, server shutting down or starting, out of connections or memory, still a standby.
_AWAY: Final = ("08", "57P", "53", "25006")


def is_away(error: BaseException) -> bool:
    """Tell whether an error says only that the database cannot be reached or used just now."""
    if _is_of_closed_pool(error):
        return False
    if isinstance(error, Unavailable | psycopg.InterfaceError):
        return True
    if not isinstance(error, psycopg.DatabaseError):
        return False
    if error.sqlstate is None:
        return isinstance(error, psycopg.OperationalError)
    return error.sqlstate.startswith(_AWAY)


def is_transient(error: BaseException) -> bool:
    """Tell whether the same call may succeed a moment later: away, or a timeout or a conflict."""
    return is_away(error) or (
        isinstance(error, psycopg.OperationalError) and not _is_of_closed_pool(error)
    )


def is_from_database(error: BaseException) -> bool:
    """Tell whether an error comes from the database or the way to it, and may pass.

    That includes what an operator has to mend (a missing right, a schema that is being replaced),
    but not a pool that its owner has closed.
    """
    return isinstance(error, psycopg.Error | PgMailboxError) and not _is_of_closed_pool(error)


def _is_of_closed_pool(error: BaseException) -> bool:
    """Tell whether a pool was closed by its owner: that will not pass."""
    return isinstance(error, psycopg_pool.PoolClosed)


def first_line(error: object) -> str:
    """Return what a log line says of an error: its first line, without query and context."""
    return str(error).partition("\n")[0]
