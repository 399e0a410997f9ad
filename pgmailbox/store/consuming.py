"""What consumers call: claim, settle, renew, say who they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgmailbox.models import DISPATCH_COLUMNS, Dispatch
from pgmailbox.store.calls import Schema, nothing, one_dispatch, scalar, scalars
from pgmailbox.store.documents import error_text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime, timedelta
    from uuid import UUID

    from psycopg.types.json import Jsonb

    from pgmailbox.models import Dispatch
    from pgmailbox.store.calls import Call, Row


class ConsumerFunctions(Schema):
    """Functions for consumers."""

    def claim(
        self, consumer_id: str, *, lease: timedelta, max_dispatches: int, queues: Sequence[str]
    ) -> Call[list[Row]]:
        """Call `claim`, for rows of DISPATCH_COLUMNS."""
        return self.call(
            "claim",
            {
                "consumer_id": consumer_id,
                "lease": lease,
                "max_dispatches": max_dispatches,
                "queues": list(queues),
            },
            list,
            DISPATCH_COLUMNS,
        )

    def ack_many(
        self, ids: Sequence[UUID], tokens: Sequence[UUID], responses: Sequence[Jsonb | None]
    ) -> Call[list[UUID]]:
        """Call `ack_many`."""
        return self.call(
            "ack_many",
            {
                "dispatch_ids": list(ids),
                "claim_tokens": list(tokens),
                "responses": None
                if all(response is None for response in responses)
                else list(responses),
            },
            scalars,
        )

    def nack_many(
        self,
        ids: Sequence[UUID],
        tokens: Sequence[UUID],
        errors: Sequence[str],
        delay: timedelta | None,
    ) -> Call[list[UUID]]:
        """Call `nack_many`."""
        return self.call(
            "nack_many",
            {
                "dispatch_ids": list(ids),
                "claim_tokens": list(tokens),
                "errors": [error_text(error) for error in errors],
                "delay": delay,
            },
            scalars,
        )

    def dead_letter_many(
        self, ids: Sequence[UUID], tokens: Sequence[UUID], errors: Sequence[str]
    ) -> Call[list[UUID]]:
        """Call `dead_letter_many`."""
        return self.call(
            "dead_letter_many",
            {
                "dispatch_ids": list(ids),
                "claim_tokens": list(tokens),
                "errors": [error_text(error) for error in errors],
            },
            scalars,
        )

    def release_many(
        self, ids: Sequence[UUID], tokens: Sequence[UUID], delay: timedelta | None = None
    ) -> Call[list[UUID]]:
        """Call `release_many`."""
        return self.call(
            "release_many",
            {"dispatch_ids": list(ids), "claim_tokens": list(tokens), "delay": delay},
            scalars,
        )

    def release_strays(
        self, consumer_id: str, held_tokens: Sequence[UUID], after: datetime
    ) -> Call[list[UUID]]:
        """Call `release_strays`."""
        return self.call(
            "release_strays",
            {"consumer_id": consumer_id, "held_tokens": list(held_tokens), "after": after},
            scalars,
        )

    def renew_leases(
        self, ids: Sequence[UUID], tokens: Sequence[UUID], lease: timedelta
    ) -> Call[dict[UUID, bool]]:
        """Call `renew_leases`, for the ids still held and whether each was interrupted."""
        return self.call(
            "renew_leases",
            {"dispatch_ids": list(ids), "claim_tokens": list(tokens), "lease": lease},
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

    def await_work(self, consumer_id: str, queues: Sequence[str]) -> Call[timedelta | None]:
        """Call `await_work`."""
        return self.call("await_work", {"consumer_id": consumer_id, "queues": list(queues)}, scalar)

    def dismiss_consumer(self, consumer_id: str) -> Call[None]:
        """Call `dismiss_consumer`."""
        return self.call("dismiss_consumer", {"consumer_id": consumer_id}, nothing)
