"""What is public is exported, documented and typed; nothing else is."""

from __future__ import annotations

import inspect
from importlib.resources import files

import pytest

import pgmailbox

PUBLIC = sorted(pgmailbox.__all__)


def test_all_names_what_is_public_and_nothing_else() -> None:
    found = {
        name
        for name, value in vars(pgmailbox).items()
        if not name.startswith("_") and not inspect.ismodule(value)
    }
    assert found == set(PUBLIC)
    assert list(pgmailbox.__all__) == PUBLIC, "sorted"


@pytest.mark.parametrize("name", PUBLIC)
def test_everything_public_says_what_it_is_for(name: str) -> None:
    thing = getattr(pgmailbox, name)
    assert (thing.__doc__ or "").strip()
    if not inspect.isclass(thing):
        return
    for member, value in vars(thing).items():
        target = value.fget if isinstance(value, property) else value
        if not member.startswith("_") and inspect.isfunction(target):
            assert (target.__doc__ or "").strip(), f"{name}.{member}"


@pytest.mark.parametrize("name", PUBLIC)
def test_everything_public_is_annotated(name: str) -> None:
    thing = getattr(pgmailbox, name)
    members = vars(thing).values() if inspect.isclass(thing) else [thing]
    for member in members:
        function = member.fget if isinstance(member, property) else member
        if inspect.isfunction(function) and not function.__name__.startswith("_"):
            signature = inspect.signature(function)
            assert signature.return_annotation is not inspect.Signature.empty, function
            for parameter in list(signature.parameters.values())[1:]:
                assert parameter.annotation is not inspect.Parameter.empty, function


def test_the_package_says_that_it_is_typed() -> None:
    assert files("pgmailbox").joinpath("py.typed").is_file()


def test_the_contracts_names_are_there() -> None:
    contract = (
        "Mailbox SyncMailbox MailboxConfig LifecycleConfig RecoveryReport Retry Snooze DeadLetter"
        " AlreadyExists DuplicateKey ClaimLost NotFound InvalidArgument VersionConflict"
        " AlreadyConsumed BlockedByBarrier SchemaMismatch ThreadBusy MailboxFull LifecycleBusy"
        " Unavailable PgMailboxError"
    )
    assert set(contract.split()) <= set(PUBLIC)
