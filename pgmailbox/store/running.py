"""What is called for runs: by who prepares or resumes one, and by the handler that is one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pgmailbox.messages import COMMAND_COLUMNS, MESSAGE_COLUMNS, RUN_COLUMNS, Command, RunRecord
from pgmailbox.models import DISPATCH_COLUMNS
from pgmailbox.store.calls import Schema, dispatch_or_none, messages_of, nothing, scalars
from pgmailbox.store.documents import checked_text, to_jsonb
from pgmailbox.store.requests import as_int

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from psycopg.types.json import Jsonb

    from pgmailbox.messages import Message
    from pgmailbox.models import Dispatch
    from pgmailbox.store.calls import Call, Row


class RunFunctions(Schema):
    """Functions for runs."""

    def create_run(  # noqa: PLR0913 - the arguments of the SQL function
        self,
        thread_id: str,
        *,
        run_id: UUID | None,
        kind: str,
        input_: object,
        dispatch_id: UUID | None,
        queue: str,
        priority: int,
    ) -> Call[RunRecord]:
        """Call `create_run`."""
        return self.call(
            "create_run",
            {
                "thread_id": checked_text("thread_id", thread_id),
                "run_id": run_id,
                "kind": checked_text("kind", kind),
                "input": to_jsonb("input", input_),
                "dispatch_id": dispatch_id,
                "queue": checked_text("queue", queue),
                "priority": as_int("priority", priority),
            },
            lambda rows: RunRecord(*rows[0]),
            RUN_COLUMNS,
        )

    def load_run(self, run_id: UUID) -> Call[RunRecord | None]:
        """Call `load_run`."""
        return self.call("load_run", {"run_id": run_id}, _run_or_none, RUN_COLUMNS)

    def resume_run(self, run_id: UUID, detail: object) -> Call[Dispatch | None]:
        """Call `resume_run`."""
        return self.call(
            "resume_run",
            {"run_id": run_id, "detail": to_jsonb("detail", detail)},
            dispatch_or_none,
            DISPATCH_COLUMNS,
        )

    # --- for the run itself, under its claim ----------------------------------------------

    def start_run(self, dispatch_id: UUID, token: UUID) -> Call[list[Message]]:
        """Call `start_run` for the run that the dispatch carries, if any."""
        return self.call(
            "start_run",
            {"run_id": None, "dispatch_id": dispatch_id, "claim_token": token},
            messages_of,
            MESSAGE_COLUMNS,
        )

    def claimed_run(self, dispatch_id: UUID, token: UUID) -> Call[RunRecord | None]:
        """Call `claimed_run`."""
        return self.call(
            "claimed_run",
            {"dispatch_id": dispatch_id, "claim_token": token},
            _run_or_none,
            RUN_COLUMNS,
        )

    def freeze(
        self, thread_id: str, boundary: str, run_id: UUID, token: UUID
    ) -> Call[list[Message]]:
        """Call `freeze`."""
        return self.call(
            "freeze",
            {
                "thread_id": thread_id,
                "boundary": checked_text("boundary", boundary),
                "run_id": run_id,
                "claim_token": token,
            },
            messages_of,
            MESSAGE_COLUMNS,
        )

    def append_messages(
        self,
        thread_id: str,
        messages: Sequence[Mapping[str, Any]],
        *,
        run_id: UUID,
        dispatch_id: UUID,
        token: UUID,
    ) -> Call[list[Message]]:
        """Call `append_messages`."""
        return self.call(
            "append_messages",
            {
                "thread_id": thread_id,
                "run_id": run_id,
                "dispatch_id": dispatch_id,
                "claim_token": token,
                "messages": to_jsonb("messages", messages),
            },
            messages_of,
            MESSAGE_COLUMNS,
        )

    def wait_run(
        self, run_id: UUID, dispatch_id: UUID, token: UUID, *, reason: str, detail: Jsonb
    ) -> Call[list[UUID]]:
        """Call `wait_run`, for the id of the dispatch that it acks."""
        return self.call(
            "wait_run",
            {
                "run_id": run_id,
                "dispatch_id": dispatch_id,
                "claim_token": token,
                "reason": reason,
                "detail": detail,
            },
            scalars,
            ("dispatch_id",),
        )

    def finish_run(
        self,
        run_id: UUID,
        dispatch_id: UUID,
        token: UUID,
        *,
        termination: str,
        response: Jsonb | None,
    ) -> Call[list[UUID]]:
        """Call `finish_run`, for the id of the dispatch that it acks."""
        return self.call(
            "finish_run",
            {
                "run_id": run_id,
                "dispatch_id": dispatch_id,
                "claim_token": token,
                "termination": checked_text("termination", termination),
                "response": response,
            },
            scalars,
            ("dispatch_id",),
        )

    def take_commands(self, dispatch_id: UUID, token: UUID, take_id: UUID) -> Call[list[Command]]:
        """Call `take_commands`, for one."""
        return self.call(
            "take_commands",
            {"dispatch_id": dispatch_id, "claim_token": token, "take_id": take_id},
            lambda rows: [Command(*row) for row in rows],
            COMMAND_COLUMNS,
        )

    # --- in a handler's own transaction ---------------------------------------------------

    def guard_claim(self, dispatch_id: UUID, token: UUID) -> Call[None]:
        """Call `guard_claim`."""
        return self.call("guard_claim", {"dispatch_id": dispatch_id, "claim_token": token}, nothing)

    def ack(self, dispatch_id: UUID, token: UUID, response: Jsonb | None) -> Call[None]:
        """Call `ack`."""
        return self.call(
            "ack",
            {"dispatch_id": dispatch_id, "claim_token": token, "response": response},
            nothing,
            ("dispatch_id",),
        )


def _run_or_none(rows: Sequence[Row]) -> RunRecord | None:
    return RunRecord(*rows[0]) if rows else None
