"""Payloads of about 8 KB, like the webhooks that applications hand on; the same at every run."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pathlib import Path

_DOCUMENTS: Final = 100
_BYTES: Final = 8000
_SEED: Final = 20_26
_WORDS: Final = (
    "the a queue worker claims its lane before it runs and settles what was done in order with"
    " one round trip unless somebody else holds an older snapshot that keeps vacuum from removing"
    " dead rows so that every claim reads them again"
).split()


def write_payloads(path: Path) -> None:
    """Write the documents, one a line."""
    chance = random.Random(_SEED)
    with path.open("w") as lines:
        for number in range(_DOCUMENTS):
            lines.write(json.dumps(_document(chance, number)) + "\n")


def _document(chance: random.Random, number: int) -> dict[str, Any]:
    """Return an event about an issue: nested objects with ids and links, and prose."""
    document: dict[str, Any] = {
        "action": chance.choice(("opened", "edited", "closed", "labeled")),
        "issue": _issue(chance, number),
        "repository": {"id": chance.randrange(10**9), "owner": _user(chance)},
        "sender": _user(chance),
        "comments": [],
    }
    # Real deliveries have 1 to 28 KB around a median of 8.
    wanted = chance.lognormvariate(0, 0.3) * _BYTES
    while len(json.dumps(document)) < wanted:
        document["comments"].append(_issue(chance, len(document["comments"])))
    return document


def _issue(chance: random.Random, number: int) -> dict[str, Any]:
    return {
        "id": chance.randrange(10**9),
        "node_id": f"{chance.randrange(2**128):032x}",
        "number": number,
        "url": f"https://api.example.com/repos/{chance.randrange(1000)}/issues/{number}",
        "title": _prose(chance, 8),
        "user": _user(chance),
        "labels": [{"id": chance.randrange(10**6), "name": word} for word in _WORDS[:3]],
        "locked": chance.random() < 0.1,
        "milestone": None,
        "created_at": f"2026-{chance.randrange(1, 13):02}-{chance.randrange(1, 29):02}T08:00:00Z",
        "body": _prose(chance, 40),
    }


def _user(chance: random.Random) -> dict[str, Any]:
    login = f"{chance.choice(_WORDS)}-{chance.randrange(10**4)}"
    return {
        "login": login,
        "id": chance.randrange(10**8),
        "avatar_url": f"https://avatars.example.com/u/{chance.randrange(10**8)}?v=4",
        "html_url": f"https://example.com/{login}",
        "type": "User",
        "site_admin": False,
    }


def _prose(chance: random.Random, words: int) -> str:
    return " ".join(chance.choices(_WORDS, k=words))
