"""What repairs and cleans up."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgmailbox.models import Abandoned, GcReport
from pgmailbox.store.calls import Schema, pairs, scalar, scalars

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta
    from uuid import UUID

    from pgmailbox.store.calls import Call


class MaintenanceFunctions(Schema):
    """Functions for recovery, sweep and clean-up."""

    def reclaim_expired_leases(self, max_dispatches: int = 100) -> Call[list[tuple[UUID, str]]]:
        """Call `reclaim_expired_leases`, for what each dispatch has become."""
        return self.call(
            "reclaim_expired_leases",
            {"max_dispatches": max_dispatches},
            pairs,
            ("dispatch_id", "status"),
        )

    def next_lease_expiry(self) -> Call[timedelta | None]:
        """Call `next_lease_expiry`."""
        return self.call("next_lease_expiry", {}, scalar)

    def reconcile_terminal_dispatches(self, max_dispatches: int = 100) -> Call[list[UUID]]:
        """Call `reconcile_terminal_dispatches`."""
        return self.call(
            "reconcile_terminal_dispatches", {"max_dispatches": max_dispatches}, scalars
        )

    def wake_threads(self, page_size: int, after: str | None) -> Call[list[str]]:
        """Call `wake_threads`."""
        return self.call("wake_threads", {"page_size": page_size, "after": after}, scalars)

    def gc(self, older_than: timedelta, max_rows: int = 10_000) -> Call[GcReport]:
        """Call `gc`."""
        return self.call(
            "gc",
            {"older_than": older_than, "max_rows": max_rows},
            lambda rows: GcReport(*rows[0]),
            ("purged_dispatches", "purged_events", "more"),
        )

    def reclaim_abandoned(
        self, max_dispatches: int = 100, *, lapsed_within: timedelta
    ) -> Call[Abandoned]:
        """Call `reclaim_abandoned`."""
        return self.call(
            "reclaim_abandoned",
            {"max_dispatches": max_dispatches, "lapsed_within": lapsed_within},
            lambda rows: Abandoned(*rows[0]),
            ("alive", "gone", "reclaimed", "dead_lettered", "lapsed"),
        )

    def repair_message_events(self, max_threads: int = 100) -> Call[list[str]]:
        """Call `repair_message_events`."""
        return self.call("repair_message_events", {"max_threads": max_threads}, scalars)

    def reconstruct_dispatches(
        self, page_size: int, after: UUID | None
    ) -> Call[list[tuple[UUID, bool | None]]]:
        """Call `reconstruct_dispatches`: prepared runs, and whether each got its dispatch back."""
        return self.call(
            "reconstruct_dispatches",
            {"page_size": page_size, "after": after},
            pairs,
            ("prepared_run_id", "reconstructed"),
        )

    def wake_background_runs(
        self, page_size: int, after: UUID | None
    ) -> Call[list[tuple[UUID, bool | None]]]:
        """Call `wake_background_runs`: waiting runs, and whether each was woken."""
        return self.call(
            "wake_background_runs",
            {"page_size": page_size, "after": after},
            pairs,
            ("waiting_run_id", "woken"),
        )

    def list_threads_with_pending_messages(
        self, page_size: int, after: str | None
    ) -> Call[list[str]]:
        """Call `list_threads_with_pending_messages`."""
        return self.call(
            "list_threads_with_pending_messages",
            {"page_size": page_size, "after": after},
            scalars,
        )

    def orphans_among(self, thread_ids: Sequence[str]) -> Call[list[str]]:
        """Call `orphans_among`."""
        return self.call("orphans_among", {"thread_ids": list(thread_ids)}, scalars)
