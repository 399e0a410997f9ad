"""Finds the ``sql/`` tree and reads it. Knows what the files are, and nothing of what is in them.

In a wheel the tree lies inside the package; in an editable install, or a checkout, beside it.
Everything is read as bytes: a ``%`` in a function body is a ``%``, and no name is put into a text.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pgmailbox.errors import MigrationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_PACKAGE: Final = Path(__file__).resolve().parent
_MIGRATION_NAME: Final = re.compile(r"(?P<version>\d{4})_(?P<name>[a-z0-9_]+)\.sql")
_CLOCK: Final = "clock"

# What can hold a semicolon that ends nothing. Escape strings with \' and comments within comments
# are not told apart; the tests compare the result with the server's own parser on all our files.
_TOKEN: Final = re.compile(
    rb"""--[^\n]*|/\*.*?\*/|'[^']*'|"[^"]*"|(?P<tag>\$\w*\$).*?(?P=tag)|(?P<end>;)""",
    re.DOTALL,
)
_BLANK: Final = re.compile(rb"(?:\s|--[^\n]*(?:\n|$)|/\*.*?\*/)*", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement of a file and the line that it begins on, from 1."""

    text: bytes
    line: int


@dataclass(frozen=True, slots=True)
class SqlFile:
    """A file of the tree: its path below ``sql/`` (with slashes), and its text."""

    path: str
    text: bytes = field(repr=False)

    @property
    def name(self) -> str:
        """The file's name without folder and suffix: for a function, the function's name."""
        return Path(self.path).stem

    @property
    def checksum(self) -> str:
        """SHA-256 of the text, in hex."""
        return hashlib.sha256(self.text).hexdigest()

    def statements(self) -> Iterator[Statement]:
        """Yield the statements one by one, so that an error in one can be placed in the file."""
        start = 0
        for token in _TOKEN.finditer(self.text):
            if token["end"]:
                yield from self._statement(start, token.end())
                start = token.end()
        yield from self._statement(start, len(self.text))

    def _statement(self, start: int, end: int) -> Iterator[Statement]:
        blank = _BLANK.match(self.text, start, end)
        start = blank.end() if blank else start
        if start < end:
            yield Statement(self.text[start:end], 1 + self.text.count(b"\n", 0, start))


@dataclass(frozen=True, slots=True)
class Migration:
    """A numbered migration. Applied once, in order of ``version``, and never edited after."""

    version: int
    name: str
    file: SqlFile

    @property
    def checksum(self) -> str:
        """SHA-256 of the file's text, in hex."""
        return self.file.checksum


@dataclass(frozen=True)
class SqlTree:
    """The ``sql/`` folder: numbered migrations, and what is applied again when its text changes.

    With ``test_clock`` the function ``clock`` has the text of ``test_clock.sql``.
    """

    root: Path
    test_clock: bool = False

    @cached_property
    def migrations(self) -> tuple[Migration, ...]:
        """The numbered migrations, from 1 without a gap; `MigrationError` for a stray name."""
        found = tuple(_migration(file) for file in self._files("migrations/*.sql"))
        versions = [migration.version for migration in found]
        if versions != list(range(1, len(found) + 1)):
            raise MigrationError(
                "the migrations are not numbered from 1 without a gap", detail=f"{versions}"
            )
        return found

    @cached_property
    def functions(self) -> tuple[SqlFile, ...]:
        """One file per function, named as the function, in folders by theme; by path."""
        found = tuple(self._as_installed(file) for file in self._files("functions/**/*.sql"))
        _refuse_twins(found)
        return found

    @cached_property
    def views(self) -> tuple[SqlFile, ...]:
        """One file per view, by name."""
        return tuple(self._files("views/*.sql"))

    @cached_property
    def roles(self) -> tuple[SqlFile, ...]:
        """``roles.sql``: who may do what."""
        return tuple(self._files("roles.sql"))

    @property
    def repeatables(self) -> tuple[SqlFile, ...]:
        """Functions, views and roles, in the order in which they are applied."""
        return (*self.functions, *self.views, *self.roles)

    @cached_property
    def target_version(self) -> int:
        """The number of the newest migration: the version that this code works with."""
        return len(self.migrations)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the names and texts of all repeatables, in hex."""
        return _digest(self.repeatables)

    def _files(self, pattern: str) -> Iterator[SqlFile]:
        for path in sorted(self.root.glob(pattern)):
            yield _read(path, self.root)

    def _as_installed(self, file: SqlFile) -> SqlFile:
        if self.test_clock and file.name == _CLOCK:
            return _read(self.root / "test_clock.sql", self.root, shown_as=file.path)
        return file


def find_tree(*, test_clock: bool = False, package: Path = _PACKAGE) -> SqlTree:
    """Return the ``sql/`` tree of this installation; `MigrationError` when there is none."""
    candidates = (package / "sql", package.parent / "sql")
    for root in candidates:
        if (root / "migrations").is_dir():
            return SqlTree(root, test_clock=test_clock)
    raise MigrationError(
        "the SQL files of pgmailbox are not there",
        detail="looked in " + " and ".join(str(candidate) for candidate in candidates),
        hint="The installation is broken: pip install --force-reinstall pgmailbox.",
    )


def _read(path: Path, root: Path, *, shown_as: str | None = None) -> SqlFile:
    # A checkout on Windows may have turned the line ends; the checksum must not see that.
    text = path.read_bytes().replace(b"\r\n", b"\n")
    return SqlFile(shown_as or path.relative_to(root).as_posix(), text)


def _migration(file: SqlFile) -> Migration:
    match = _MIGRATION_NAME.fullmatch(Path(file.path).name)
    if match is None:
        raise MigrationError(
            f"sql/{file.path} is not named like a migration", hint="Name it 0042_what_it_does.sql."
        )
    return Migration(int(match["version"]), match["name"], file)


def _refuse_twins(files: Iterable[SqlFile]) -> None:
    paths: dict[str, str] = {}
    for file in files:
        twin = paths.setdefault(file.name, file.path)
        if twin != file.path:
            raise MigrationError(f"sql/{twin} and sql/{file.path} are one function in two files")


def _digest(files: Iterable[SqlFile]) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.path}\0{len(file.text)}\0".encode())
        digest.update(file.text)
    return digest.hexdigest()
