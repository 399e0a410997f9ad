from __future__ import annotations

import pickle

import psycopg
import pytest
from psycopg import pq

import pgmailbox
from pgmailbox import errors

CODES = {
    "PM001": errors.AlreadyExists,
    "PM002": errors.DuplicateKey,
    "PM003": errors.ClaimLost,
    "PM004": errors.NotFound,
    "PM005": errors.InvalidArgument,
    "PM006": errors.VersionConflict,
    "PM007": errors.AlreadyConsumed,
    "PM008": errors.BlockedByBarrier,
    "PM009": errors.SchemaMismatch,
    "PM010": errors.ThreadBusy,
    "PM011": errors.MailboxFull,
}


class FromServer(psycopg.DatabaseError):
    """An error as psycopg raises it, without a server: its fields are those of the result."""

    def __init__(self, fields: dict[pq.DiagnosticField, str]) -> None:
        encoded: dict[int, bytes | None] = {key: value.encode() for key, value in fields.items()}
        super().__init__("from the server", info=encoded)


def from_server(sqlstate: str) -> FromServer:
    return FromServer(
        {
            pq.DiagnosticField.SQLSTATE: sqlstate,
            pq.DiagnosticField.MESSAGE_PRIMARY: "dispatch 7 is not yours",
            pq.DiagnosticField.MESSAGE_DETAIL: "it is acked",
            pq.DiagnosticField.MESSAGE_HINT: "let it be",
        }
    )


@pytest.mark.parametrize("code", sorted(CODES))
def test_every_code_of_the_contract_has_its_class(code: str) -> None:
    assert errors.CLASS_BY_SQLSTATE[code] is CODES[code]
    assert CODES[code].sqlstate == code


def test_the_table_holds_the_codes_of_the_contract_and_no_others() -> None:
    assert dict(errors.CLASS_BY_SQLSTATE) == CODES


def test_all_errors_are_below_one_root_and_public() -> None:
    ours = {
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, Exception)
    }
    assert all(issubclass(error, pgmailbox.PgMailboxError) for error in ours)
    assert {error.__name__ for error in ours} <= set(pgmailbox.__all__)


def test_an_error_of_class_pm_arrives_with_all_that_the_server_said() -> None:
    with pytest.raises(errors.ClaimLost) as caught, errors.translated():
        raise from_server("PM003")
    assert caught.value.message == "dispatch 7 is not yours"
    assert caught.value.detail == "it is acked"
    assert caught.value.hint == "let it be"
    assert caught.value.sqlstate == "PM003"
    assert isinstance(caught.value.__cause__, psycopg.Error)


async def test_translation_stands_around_awaits_too() -> None:
    async def refuse() -> None:
        raise from_server("PM011")

    with pytest.raises(errors.MailboxFull), errors.translated():
        await refuse()


def test_a_code_of_a_newer_schema_is_refused_without_a_class_of_its_own() -> None:
    ours = errors.from_psycopg(from_server("PM099"))
    assert type(ours) is errors.Refused
    assert ours.sqlstate == "PM099"


def test_other_errors_pass_as_they_are() -> None:
    assert errors.from_psycopg(from_server("23505")) is None
    assert errors.from_psycopg(psycopg.OperationalError("no route")) is None
    with pytest.raises(FromServer), errors.translated():
        raise from_server("42501")


def test_an_error_shows_detail_and_hint_and_survives_pickling() -> None:
    error = errors.MigrationError("m", detail="d", hint="h", path="p.sql", line=3, sqlstate="42601")
    assert str(error) == "m\nDETAIL: d\nHINT: h"
    copied = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert vars(copied) == vars(error)
