"""What options and arguments may be, beyond what click knows itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

import click

from pgmailbox.models import DispatchStatus

if TYPE_CHECKING:
    from collections.abc import Callable

    Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


class DispatchId(click.ParamType[UUID]):
    """The id of a dispatch; anything that is no UUID is wrong usage."""

    name = "id"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> UUID:
        """Return the UUID that the text is."""
        try:
            return value if isinstance(value, UUID) else UUID(str(value))
        except ValueError:
            self.fail(f"{value!r} is not the id of a dispatch (a UUID)", param, ctx)


dispatch_id: Decorator = click.argument("dispatch_id", metavar="ID", type=DispatchId())
thread_id: Decorator = click.argument("thread_id", metavar="THREAD")
statuses: Decorator = click.option(
    "--status",
    "statuses",
    multiple=True,
    type=click.Choice([status.value for status in DispatchStatus]),
    help="Only those in this status; repeatable.",
)
