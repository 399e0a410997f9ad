from __future__ import annotations

import traceback

import pytest

from pgmailbox.dsn import parsed, redacted
from pgmailbox.errors import InvalidArgument

SECRET = "s3cr3t"  # noqa: S105 - what must not be shown


@pytest.mark.parametrize(
    "dsn",
    [
        f"postgresql://u:{SECRET}@h:5433/db",
        f"postgres://u:{SECRET}@h1,h2:5433,5434/db?sslmode=require",
        f"host=h user=u password={SECRET}",
        f"host=h password='{SECRET} with blanks'",
        f"postgresql://u@h/db?password={SECRET}",
        f"postgresql://u@h/db?sslpassword={SECRET}",
    ],
)
def test_a_password_is_never_shown(dsn: str) -> None:
    assert SECRET not in redacted(dsn)
    assert "***" in redacted(dsn)


@pytest.mark.parametrize(
    "dsn",
    [
        f"postgresql://u:p@{SECRET}@h/db",
        f"postgresql://u:p@ss/{SECRET}@h/db",
        f"postgresql://u:pa/{SECRET}@h/db",
        f"postgresql://u:{SECRET}/db",
        f"postgresql://u:%zz{SECRET}@h/db",
        f"postgresql://u:{SECRET}@[h/db",
        f"mysql://u:{SECRET}@h/db",
        f"POSTGRESQL://u:{SECRET}@h/db",
        f"host=h password = {SECRET} {SECRET}",
        f"host=h password='{SECRET}",
        f"host=h passwrd={SECRET}",
        f"{SECRET}",
    ],
)
def test_a_malformed_dsn_shows_nothing_at_all(dsn: str) -> None:
    assert SECRET not in redacted(dsn)
    with pytest.raises(InvalidArgument) as caught:
        parsed(dsn)
    assert SECRET not in "".join(traceback.format_exception(caught.value))


def test_everything_but_the_password_can_be_read() -> None:
    shown = redacted(f"postgresql://u:{SECRET}@h:5433/db?application_name=a")
    for part in ("user=u", "host=h", "port=5433", "dbname=db", "application_name=a"):
        assert part in shown


def test_an_empty_dsn_leaves_everything_to_libpq() -> None:
    assert parsed("") == {}
    assert redacted("") == ""


@pytest.mark.parametrize(
    "dsn",
    ["postgresql://h/db?user=me@corp", "postgresql://u:p@h/db?application_name=a@b"],
)
def test_an_at_sign_in_the_query_is_what_libpq_takes_it_for(dsn: str) -> None:
    assert parsed(dsn)["host"] == "h"
    assert "not shown" in redacted(dsn), "it could still be of a password"
