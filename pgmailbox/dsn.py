"""What may be shown of a connection string, and whether it is one at all.

A password must not reach output, logs or tracebacks. Neither libpq's messages nor its parser can be
trusted with that: ``postgresql://u:p@ss@host/db`` parses as host ``ss@host``, and
``postgresql://u:secret/db`` as port ``secret``, which libpq then quotes in its complaint. So a
string is either understood beyond doubt, or none of it is shown.
"""

from __future__ import annotations

import re
from typing import Final

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from pgmailbox.errors import InvalidArgument

_SECRETS: Final = frozenset({"password", "sslpassword", "oauth_client_secret", "scram_client_key"})
_URL: Final = re.compile(r"postgres(?:ql)?://")
_PORTS: Final = re.compile(r"[0-9,]*")
_UNREADABLE: Final = "<DSN not shown: it may tell a password>"


def parsed(dsn: str) -> dict[str, str]:
    """Return the parameters of a DSN (URL or key=value), passwords included.

    Raises `InvalidArgument`, without quoting any of it, for a string that libpq does not accept or
    in which a password has been taken for something else.
    """
    try:
        parameters = {key: str(value) for key, value in conninfo_to_dict(dsn).items()}
    except psycopg.ProgrammingError:
        parameters = None
    if parameters is None or _is_misread(dsn, parameters):
        raise InvalidArgument(
            "the DSN is malformed",
            hint="Write postgresql://user@host:port/database or key=value pairs; percent-encode"
            " special characters of a password.",
        )
    return parameters


def redacted(dsn: str) -> str:
    """Return the DSN as key=value pairs with every password as ``***``; for output and logs."""
    try:
        parameters = parsed(dsn)
    except InvalidArgument:
        return _UNREADABLE
    if _is_doubtful(dsn):
        return _UNREADABLE
    shown = {key: "***" if key in _SECRETS else value for key, value in parameters.items()}
    return make_conninfo("", **shown)


def _is_misread(dsn: str, parameters: dict[str, str]) -> bool:
    """Tell whether part of a password has become port or host: it holds an @, or a / before one.

    What libpq takes for user and password ends at the first @, if no / comes before that. Behind
    it, and before the query, there is none in a URL that was meant as it is read.
    """
    if not _PORTS.fullmatch(parameters.get("port", "")):
        return True
    scheme = _URL.match(dsn)
    if scheme is None:
        return False
    rest = dsn[scheme.end() :]
    before, at, after = rest.partition("@")
    place = (rest if "/" in before or not at else after).partition("?")[0]
    return "@" in place


def _is_doubtful(dsn: str) -> bool:
    """Tell whether a URL has an @ that may belong to a password, wherever it stands."""
    scheme = _URL.match(dsn)
    if scheme is None:
        return False
    before, *after = dsn[scheme.end() :].split("@")
    return len(after) > 1 or (len(after) == 1 and "/" in before)
