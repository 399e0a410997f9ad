"""What consumers call: claim, settle, renew, say who they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from pgmailbox.models import DISPATCH_COLUMNS
from pgmailbox.store.calls import Schema, nothing, one_dispatch, pairs, scalar, scalars
from pgmailbox.store.claims import CLAIMED_COLUMNS, claimed_row, documents, uuids
from pgmailbox.store.documents import error_text

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from datetime import datetime, timedelta
    from uuid import UUID

    from pgmailbox.models import Dispatch
    from pgmailbox.store.calls import Call, Column, Row
    from pgmailbox.store.claims import Claimed


class ConsumerFunctions(Schema):
    """Functions for consumers."""

    def claim(
        self, consumer_id: str, *, lease: timedelta, max_dispatches: int, queues: Sequence[str]
    ) -> Call[list[Claimed]]:
        """Call `claim`."""
        return self.call(
            "claim",
            {
                "consumer_id": consumer_id,
                "lease": lease,
                "max_dispatches": max_dispatches,
                "queues": list(queues),
            },
            _claims,
            CLAIMED_COLUMNS,
            claimed_row,
        )

    def ack_and_claim(  # noqa: PLR0913 - what ack_many and claim take
        self,
        ids: Collection[bytes],
        tokens: Collection[bytes],
        responses: Sequence[str | None],
        consumer_id: str,
        *,
        lease: timedelta,
        max_dispatches: int,
        queues: Sequence[str],
    ) -> Call[list[Claimed]]:
        """Call `ack_and_claim`: what was refused comes first, with nothing but its dispatch_id."""
        return self.call(
            "ack_and_claim",
            {
                "consumer_id": consumer_id,
                "dispatch_ids": uuids(ids),
                "claim_tokens": uuids(tokens),
                "responses": documents(responses),
                "lease": lease,
                "max_dispatches": max_dispatches,
                "queues": list(queues),
            },
            _claims,
            CLAIMED_COLUMNS,
            claimed_row,
        )

    def ack_many(
        self, ids: Collection[bytes], tokens: Collection[bytes], responses: Sequence[str | None]
    ) -> Call[list[bytes]]:
        """Call `ack_many`, for the ids that were acked, with JSON texts as responses."""
        return self.call(
            "ack_many",
            {
                "dispatch_ids": uuids(ids),
                "claim_tokens": uuids(tokens),
                "responses": documents(responses),
            },
            scalars,
            _raw_ids("ack_many"),
        )

    def nack_many(
        self,
        ids: Collection[bytes],
        tokens: Collection[bytes],
        errors: Iterable[str],
        delay: timedelta | None,
    ) -> Call[list[bytes]]:
        """Call `nack_many`, for the ids that were settled."""
        return self.call(
            "nack_many",
            {
                "dispatch_ids": uuids(ids),
                "claim_tokens": uuids(tokens),
                "errors": [error_text(error) for error in errors],
                "delay": delay,
            },
            scalars,
            _raw_ids("nack_many"),
        )

    def dead_letter_many(
        self, ids: Collection[bytes], tokens: Collection[bytes], errors: Iterable[str]
    ) -> Call[list[bytes]]:
        """Call `dead_letter_many`, for the ids that were settled."""
        return self.call(
            "dead_letter_many",
            {
                "dispatch_ids": uuids(ids),
                "claim_tokens": uuids(tokens),
                "errors": [error_text(error) for error in errors],
            },
            scalars,
            _raw_ids("dead_letter_many"),
        )

    def release_many(
        self, ids: Collection[bytes], tokens: Collection[bytes], delay: timedelta | None = None
    ) -> Call[list[bytes]]:
        """Call `release_many`, for the ids that were released."""
        return self.call(
            "release_many",
            {"dispatch_ids": uuids(ids), "claim_tokens": uuids(tokens), "delay": delay},
            scalars,
            _raw_ids("release_many"),
        )

    def clock(self) -> Call[datetime]:
        """Call `clock`."""
        return self.call("clock", {}, scalar)

    def release_strays(
        self, consumer_id: str, held_tokens: Collection[bytes], after: datetime
    ) -> Call[list[UUID]]:
        """Call `release_strays`."""
        return self.call(
            "release_strays",
            {"consumer_id": consumer_id, "held_tokens": uuids(held_tokens), "after": after},
            scalars,
        )

    def renew_leases(
        self, ids: Sequence[UUID], tokens: Sequence[UUID], lease: timedelta, *, exactly: bool
    ) -> Call[dict[UUID, bool]]:
        """Call `renew_leases`, for the ids still held and whether each was interrupted."""
        return self.call(
            "renew_leases",
            {
                "dispatch_ids": list(ids),
                "claim_tokens": list(tokens),
                "lease": lease,
                "exactly": exactly,
            },
            dict,
            ("dispatch_id", "interrupted"),
        )

    def supersede_claimed(self, dispatch_id: UUID, token: UUID, reason: str) -> Call[list[UUID]]:
        """Call `supersede_claimed`, for the id."""
        return self.call(
            "supersede_claimed",
            {"dispatch_id": dispatch_id, "claim_token": token, "reason": reason},
            scalars,
            ("dispatch_id",),
        )

    def record_run_result(
        self,
        dispatch_id: UUID,
        token: UUID,
        *,
        status: str,
        termination: str,
        error: str | None = None,
    ) -> Call[Dispatch]:
        """Call `record_run_result`."""
        return self.call(
            "record_run_result",
            {
                "dispatch_id": dispatch_id,
                "claim_token": token,
                "dispatch_instance_id": None,
                "status": status,
                "termination": termination,
                "response": None,
                "error": None if error is None else error_text(error),
            },
            one_dispatch,
            DISPATCH_COLUMNS,
        )

    # --- consumers ----------------------------------------------------------------------

    def announce_consumer(
        self,
        consumer_id: str,
        queues: Sequence[str],
        kinds: Sequence[str],
        concurrency: int,
        *,
        listening: bool,
    ) -> Call[None]:
        """Call `announce_consumer`; on the listening session, if there is one."""
        return self.call(
            "announce_consumer",
            {
                "consumer_id": consumer_id,
                "queues": list(queues),
                "kinds": list(kinds),
                "concurrency": concurrency,
                "listening": listening,
            },
            nothing,
        )

    def await_work(
        self, consumer_id: str, queues: Sequence[str]
    ) -> Call[tuple[timedelta | None, bool]]:
        """Call `await_work`: how long until something is due, and whether producers had known."""
        return self.call(
            "await_work",
            {"consumer_id": consumer_id, "queues": list(queues)},
            lambda rows: pairs(rows)[0],
            ("due_in", "is_known"),
        )

    def dismiss_consumer(self, consumer_id: str) -> Call[None]:
        """Call `dismiss_consumer`."""
        return self.call("dismiss_consumer", {"consumer_id": consumer_id}, nothing)


def _claims(rows: Sequence[Row]) -> list[Claimed]:
    return cast("list[Claimed]", rows)  # as its row factory has made them


def _raw_ids(function: str) -> tuple[Column]:
    """Select the ids that a function returns as they came over the wire, to be looked up by."""
    return (("uuid_send", function),)
