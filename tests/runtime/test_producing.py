"""Enqueueing from Python: alone, in bulk, and inside the application's own transactions."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import pickle
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import AsyncConnection, postgres
from psycopg.adapt import AdaptersMap
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb, JsonbBinaryDumper
from psycopg_pool import AsyncConnectionPool, ConnectionPool

from pgmailbox import (
    AlreadyExists,
    DuplicateKey,
    EnqueueRequest,
    InvalidArgument,
    Mailbox,
    NotFound,
    SchemaMismatch,
    SyncMailbox,
    Unavailable,
)
from pgmailbox.models import new_dispatch
from pgmailbox.requests import CHUNK
from tests.runtime.houses import load, running, until_drained, until_status
from tests.sessions import one, rows, wait_until_async

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pgmailbox import Dispatch, HeldDispatch
    from tests.runtime.houses import NewMailbox

    Connection = psycopg.Connection[tuple[Any, ...]]

AT_WORK = """
    select query from pg_stat_activity
     where datname = current_database() and pid <> pg_backend_pid()
"""
NOON = dt.datetime(2099, 1, 1, 12, tzinfo=dt.UTC)
EVERYTHING: dict[str, Any] = {
    "payload": {"a": ["é", 1.5, None]},
    "thread_id": "t",
    "kind": "k",
    "queue": "q",
    "priority": 7,
    "run_id": uuid4(),
    "dedupe_key": "d",
    "available_at": NOON,
    "max_attempts": 3,
}


def enqueued(conn: Connection) -> int:
    return int(one(conn, "select count(*) as n from pgmailbox.dispatches")["n"])


# --- one ----------------------------------------------------------------------------------


async def test_enqueue_returns_the_dispatch_as_it_stands_in_the_database(
    mailbox: Mailbox, conn: Connection
) -> None:
    dispatch_id = uuid4()
    sent = await mailbox.enqueue(**EVERYTHING, dispatch_id=dispatch_id)
    assert sent.dispatch_id == dispatch_id
    assert {name: getattr(sent, name) for name in EVERYTHING} == EVERYTHING
    assert (sent.status, sent.attempt_count, sent.dispatch_epoch) == ("queued", 0, 0)
    row = one(conn, "select * from pgmailbox.dispatches")
    assert {name: row[name] for name in EVERYTHING} == EVERYTHING


class Word(StrEnum):
    K = "another word"


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"payload": None},
        {"payload": {1: (2, 3), "n": 1e22}},
        {"thread_id": "t"},
        {"thread_id": "interrupted"},
        {"thread_id": Word.K, "kind": Word.K, "queue": Word.K},
        {"delay": 60},
        {"available_at": dt.datetime(2001, 1, 1, tzinfo=dt.UTC)},
        {"available_at": NOON},
        {"priority": 0, "max_attempts": 1, "on_duplicate": "return"},
        {"dedupe_key": "d"},
        {"dedupe_key": "d", "on_duplicate": "return"},
        {"run_id": UUID(int=7)},
    ],
    ids=str,
)
async def test_what_is_enqueued_alone_is_answered_as_it_is_stored(
    mailbox: Mailbox, given: dict[str, Any]
) -> None:
    await mailbox.interrupt("interrupted")
    sent = await mailbox.enqueue(**given)
    assert sent == await mailbox.load_dispatch(sent.dispatch_id)
    assert type(sent) is type(await mailbox.load_dispatch(sent.dispatch_id))
    assert all(type(text) is str for text in (sent.kind, sent.queue, sent.thread_id or ""))


async def test_the_mailboxs_max_attempts_is_the_default(new_mailbox: NewMailbox) -> None:
    mailbox = new_mailbox(max_attempts=9)
    assert (await mailbox.enqueue({})).max_attempts == 9
    assert (await mailbox.enqueue({}, max_attempts=2)).max_attempts == 2
    one_of_many, other = await mailbox.enqueue_many([{}, {"max_attempts": 2}])
    assert (one_of_many.max_attempts, other.max_attempts) == (9, 2)


@pytest.mark.parametrize("delay", [2, 2.0, dt.timedelta(seconds=2)], ids=["int", "float", "delta"])
async def test_a_delay_is_a_timedelta_or_seconds(
    mailbox: Mailbox, delay: float | dt.timedelta
) -> None:
    for sent in (
        await mailbox.enqueue({}, delay=delay),
        *await mailbox.enqueue_many([{"delay": delay}]),
    ):
        assert abs((sent.available_at - sent.created_at).total_seconds() - 2) < 0.01


@pytest.mark.parametrize(
    "payload", [0, "text", [1, 2], {}, "🦆", {"k": "\\u0000 is six characters"}]
)
async def test_a_payload_is_anything_json(mailbox: Mailbox, payload: object) -> None:
    assert (await mailbox.enqueue(payload)).payload == payload
    [sent] = await mailbox.enqueue_many([{"payload": payload}])
    assert sent.payload == payload


# --- what is refused ------------------------------------------------------------------------


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"payload": object()}, "payload is not JSON"),
    ({"payload": {"x": float("inf")}}, "payload is not JSON"),
    ({"payload": {1, 2}}, "payload is not JSON"),
    ({"payload": ["\ud800"]}, "payload is not JSON"),
    ({"payload": {"deep": "a\x00b"}}, "payload holds a NUL"),
    ({"payload": {"a\x00b": 1}}, "payload holds a NUL"),
    ({"payload": {}, "thread_id": "a\x00b"}, "thread_id holds a NUL"),
    ({"payload": {}, "thread_id": "\udcff"}, "thread_id is not Unicode"),
    ({"payload": {}, "thread_id": 7}, "thread_id must be text"),
    ({"payload": {}, "kind": "\x00"}, "kind holds a NUL"),
    ({"payload": {}, "queue": "\x00"}, "queue holds a NUL"),
    ({"payload": {}, "dedupe_key": "\x00"}, "dedupe_key holds a NUL"),
    ({"payload": {}, "delay": -1}, "delay must be not negative"),
    ({"payload": {}, "delay": "soon"}, "delay must be a timedelta or seconds"),
    ({"payload": {}, "available_at": dt.datetime(2099, 1, 1)}, "aware"),  # noqa: DTZ001
    ({"payload": {}, "available_at": "tomorrow"}, "aware"),
    ({"payload": {}, "available_at": NOON, "delay": 1}, "delay"),
    ({"payload": {}, "priority": 300}, "priority"),
    ({"payload": {}, "priority": "high"}, "priority"),
    ({"payload": {}, "max_attempts": 0}, "max_attempts"),
    ({"payload": {}, "thread_id": ""}, "thread_id"),
    ({"payload": {}, "thread_id": "x" * 513}, "thread_id"),
    ({"payload": {}, "on_duplicate": "shrug"}, "on_duplicate"),
]


@pytest.mark.parametrize(
    ("arguments", "said"), WRONG, ids=[f"{list(args)[-1]}-{n}" for n, (args, _) in enumerate(WRONG)]
)
async def test_what_can_never_be_right_is_an_invalid_argument_that_names_it(
    mailbox: Mailbox, conn: Connection, arguments: dict[str, Any], said: str
) -> None:
    with pytest.raises(InvalidArgument) as one_by_one:
        await mailbox.enqueue(**arguments)
    assert said in str(one_by_one.value)
    assert one_by_one.value.sqlstate == "PM005"
    with pytest.raises(InvalidArgument) as in_bulk:
        await mailbox.enqueue_many([{"payload": {}}, arguments])
    assert said in str(in_bulk.value)
    assert "2" in in_bulk.value.message, "the message says which item it is"
    assert enqueued(conn) == 0


async def test_an_id_that_exists_and_a_live_dedupe_key_are_errors_of_their_own(
    mailbox: Mailbox,
) -> None:
    first = await mailbox.enqueue({}, dedupe_key="once", thread_id="t")
    with pytest.raises(AlreadyExists) as taken:
        await mailbox.enqueue({}, dispatch_id=first.dispatch_id)
    assert (taken.value.sqlstate, str(first.dispatch_id) in str(taken.value)) == ("PM001", True)
    with pytest.raises(DuplicateKey) as twice:
        await mailbox.enqueue({}, dedupe_key="once", thread_id="t")
    assert (twice.value.sqlstate, "once" in str(twice.value)) == ("PM002", True)
    with pytest.raises(DuplicateKey):
        await mailbox.enqueue_many([{}, {"dedupe_key": "once", "thread_id": "t"}])
    again = await mailbox.enqueue({}, dedupe_key="once", thread_id="t", on_duplicate="return")
    assert again.dispatch_id == first.dispatch_id


async def test_an_unknown_id_is_not_found_where_it_matters_and_none_where_it_does_not(
    mailbox: Mailbox,
) -> None:
    unknown = UUID(int=7)
    assert await mailbox.load_dispatch(unknown) is None
    assert await mailbox.cancel(unknown) is None
    assert (await mailbox.why(unknown)).reason == "unknown"
    with pytest.raises(NotFound):
        await mailbox.retry_dispatch(unknown)


# --- many ---------------------------------------------------------------------------------


async def test_enqueue_many_takes_mappings_and_requests_and_keeps_their_order(
    mailbox: Mailbox, conn: Connection
) -> None:
    request = EnqueueRequest(payload={"n": 1}, thread_id="t")
    sent = await mailbox.enqueue_many([{"payload": {"n": 0}, "thread_id": "t"}, request, {}])
    assert [d.payload for d in sent] == [{"n": 0}, {"n": 1}, {}]
    claimed = rows(conn, "select payload from pgmailbox.claim('c', thread_id => 't')")
    assert claimed == [{"payload": {"n": 0}}]


async def test_enqueue_many_carries_every_argument(mailbox: Mailbox) -> None:
    dispatch_id = uuid4()
    [sent] = await mailbox.enqueue_many([{**EVERYTHING, "dispatch_id": dispatch_id}])
    assert {name: getattr(sent, name) for name in EVERYTHING} == EVERYTHING
    assert sent.dispatch_id == dispatch_id


async def test_enqueue_many_of_nothing_is_nothing(mailbox: Mailbox) -> None:
    assert await mailbox.enqueue_many([]) == []


@pytest.mark.parametrize("many", [3, CHUNK + 3])
async def test_what_was_enqueued_is_made_when_it_is_looked_at_and_once(
    mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch, many: int
) -> None:
    made: list[object] = []

    def noted(**fields: Any) -> Dispatch:  # noqa: ANN401 - the fields, whatever they are
        made.append(fields)
        return new_dispatch(**fields)

    monkeypatch.setattr("pgmailbox.store.batches.new_dispatch", noted)
    payloads: list[list[Any]] = [[n] for n in range(many)]
    sent = await mailbox.enqueue_many({"payload": payload} for payload in payloads)
    payloads[1].append("an afterthought")
    assert (len(sent), len(made)) == (many, 0)
    assert sent[1].payload == [1]
    assert [d.payload for d in sent[-2:]] == [[many - 2], [many - 1]]
    assert sent[1] is sent[1]
    assert sent[1] in sent
    assert sent == list(sent)
    assert list(reversed(sent))[-1] == sent[0]
    assert pickle.loads(pickle.dumps(sent)) == sent  # noqa: S301 - our own
    assert len(made) == many
    assert sent[1] == await mailbox.load_dispatch(sent[1].dispatch_id)
    with pytest.raises(IndexError):
        sent[many]


async def test_ten_thousand_go_in_by_one_call_in_order(mailbox: Mailbox, conn: Connection) -> None:
    sent = await mailbox.enqueue_many(
        {"payload": n, "thread_id": f"t{n % 3}"} for n in range(10_000)
    )
    assert [d.payload for d in sent] == list(range(10_000))
    assert len({d.dispatch_id for d in sent}) == 10_000
    listed = [d.payload for d in await mailbox.list_dispatches(thread_id="t1", page_size=100)]
    assert listed == list(range(1, 300, 3))


@pytest.mark.parametrize("own", ["none", "autocommit", "transaction", "implied"])
async def test_enqueue_many_is_all_or_nothing_however_many_and_on_whose_connection(
    mailbox: Mailbox, dsn: str, conn: Connection, own: str
) -> None:
    items: list[dict[str, Any]] = [{"payload": n} for n in range(4100)]
    items[4000]["dispatch_id"] = items[10]["dispatch_id"] = uuid4()
    async with await AsyncConnection.connect(dsn, autocommit=own == "autocommit") as connection:
        if own == "transaction":
            await connection.execute("select 1")
        with pytest.raises(AlreadyExists):
            await mailbox.enqueue_many(items, connection=None if own == "none" else connection)
        await connection.rollback()
    assert enqueued(conn) == 0


@pytest.mark.parametrize("own", ["none", "autocommit", "transaction", "implied"])
async def test_what_this_side_refuses_late_leaves_nothing_to_be_committed(
    mailbox: Mailbox, dsn: str, conn: Connection, own: str
) -> None:
    items: list[dict[str, Any]] = [{"payload": n} for n in range(4100)]
    items[4000]["kind"] = "\x00"
    async with await AsyncConnection.connect(dsn, autocommit=own == "autocommit") as connection:
        if own == "transaction":
            await connection.execute("select 1")
        with pytest.raises(InvalidArgument, match="item 4001: kind"):
            await mailbox.enqueue_many(items, connection=None if own == "none" else connection)
        await connection.commit()
    assert enqueued(conn) == 0


async def test_items_are_made_ready_while_the_server_is_at_work(
    mailbox: Mailbox, conn: Connection
) -> None:
    seen: list[str] = []

    def items() -> Iterator[dict[str, Any]]:
        for n in range(4 * CHUNK):
            if n == 3 * CHUNK:
                seen.extend(row["query"] for row in rows(conn, AT_WORK))
            yield {"payload": n}

    sent = await mailbox.enqueue_many(items())
    assert [d.payload for d in sent] == list(range(4 * CHUNK))
    assert [query for query in seen if "enqueue_batch" in query] != []


async def test_what_was_there_before_is_returned_as_it_is(mailbox: Mailbox) -> None:
    live = await mailbox.enqueue({"n": 0}, dedupe_key="k")
    [new, old] = await mailbox.enqueue_many(
        {"payload": {"n": n}, "dedupe_key": key, "on_duplicate": "return"}
        for n, key in enumerate(("j", "k"), start=1)
    )
    assert (old, new.payload) == (live, {"n": 1})


async def test_what_is_returned_is_what_stands_in_the_database(mailbox: Mailbox) -> None:
    """It is made of what was given; nothing of the caller's is in it, nor any form of its own."""
    payload: dict[Any, Any] = {"a": (1, 2), "b": 1.0, 3: None}
    await mailbox.interrupt("t")
    items: list[EnqueueRequest | dict[str, Any]] = [
        {"payload": payload, "thread_id": "t", "run_id": str(uuid4())},
        {"payload": None, "kind": None, "queue": None, "on_duplicate": None},
        {**EVERYTHING, "dispatch_id": uuid4()},
        {"delay": 3600, "max_attempts": None, "dedupe_key": None},
        EnqueueRequest(payload=[1], run_id=uuid4()),
    ]
    sent = await mailbox.enqueue_many(items)
    assert sent == [await mailbox.load_dispatch(d.dispatch_id) for d in sent]
    payload["a"] = "changed"
    assert sent[0].payload == {"a": [1, 2], "b": 1, "3": None}


async def test_an_item_of_the_wrong_shape_is_named(mailbox: Mailbox, conn: Connection) -> None:
    with pytest.raises(InvalidArgument, match="item 2 has an unknown key 'prio'"):
        await mailbox.enqueue_many([{}, {"prio": 1}])
    with pytest.raises(InvalidArgument, match="item 1 is neither"):
        await mailbox.enqueue_many([("payload", {})])  # type: ignore[list-item]
    assert enqueued(conn) == 0


# --- the caller's own connection ------------------------------------------------------------


async def test_an_enqueue_on_the_callers_connection_is_part_of_its_transaction(
    mailbox: Mailbox, dsn: str, conn: Connection
) -> None:
    async with await AsyncConnection.connect(dsn) as connection:
        await mailbox.enqueue({"n": 1}, connection=connection)
        await mailbox.enqueue_many([{}] * 2500, connection=connection)
        assert enqueued(conn) == 0
        await connection.rollback()
        assert enqueued(conn) == 0
        await mailbox.enqueue({"n": 2}, connection=connection)
        await connection.commit()
    assert [row["payload"] for row in rows(conn, "select payload from pgmailbox.dispatches")] == [
        {"n": 2}
    ]


async def test_in_a_nested_transaction_it_goes_with_the_savepoint(
    mailbox: Mailbox, dsn: str, conn: Connection
) -> None:
    async with (
        await AsyncConnection.connect(dsn, autocommit=True) as connection,
        connection.transaction(),
    ):
        await mailbox.enqueue({"n": 1}, connection=connection)
        async with connection.transaction(force_rollback=True):
            await mailbox.enqueue_many([{}] * 2500, connection=connection)
        assert enqueued(conn) == 0
    assert enqueued(conn) == 1


async def test_a_row_factory_of_the_callers_connection_does_not_matter(
    mailbox: Mailbox, dsn: str
) -> None:
    async with await AsyncConnection.connect(
        dsn, autocommit=True, row_factory=dict_row
    ) as connection:
        sent = await mailbox.enqueue({"n": 1}, connection=connection)
        assert sent.payload == {"n": 1}
        assert await mailbox.cancel(sent.dispatch_id, connection=connection) is not None
        assert (await mailbox.interrupt("t", connection=connection)).new_dispatch_epoch == 1
        many = await mailbox.enqueue_many([{}] * 2500, connection=connection)
        assert len(many) == 2500


async def test_a_refusal_on_the_callers_connection_leaves_its_transaction_to_the_caller(
    mailbox: Mailbox, dsn: str, conn: Connection
) -> None:
    sent = await mailbox.enqueue({})
    async with await AsyncConnection.connect(dsn) as connection:
        await connection.execute("create temporary table mine (n int)")
        with pytest.raises(AlreadyExists):
            async with connection.transaction():
                await mailbox.enqueue({}, dispatch_id=sent.dispatch_id, connection=connection)
        await mailbox.enqueue({}, connection=connection)
        await connection.commit()
    assert enqueued(conn) == 2


# --- the application's pool -----------------------------------------------------------------


@pytest.mark.parametrize("autocommit", [True, False], ids=["autocommit", "transactions"])
async def test_a_pool_of_the_application_serves_producers_and_workers(
    new_mailbox: NewMailbox, dsn: str, autocommit: bool
) -> None:
    kwargs = {"autocommit": autocommit, "row_factory": dict_row}
    async with AsyncConnectionPool(dsn, max_size=4, kwargs=kwargs, open=False) as pool:
        mailbox = new_mailbox(pool)

        @mailbox.handler("default")
        async def work(dispatch: HeldDispatch) -> int:
            async with pool.connection() as connection:
                await connection.execute("select 1")
            return int(dispatch.payload["n"]) + 1

        async with running(mailbox):
            sent = await mailbox.enqueue({"n": 1})
            done = await until_status(mailbox, sent, "acked")
            assert done.run_response == 2
            await mailbox.enqueue_many({"payload": {"n": n}} for n in range(100))
            await until_drained(mailbox)
            assert len(await mailbox.enqueue_many([{"queue": "elsewhere"}] * 2500)) == 2500
        await mailbox.close()
        async with pool.connection() as connection:  # still the application's
            await connection.execute("select 1")


async def test_a_pool_that_is_not_open_yet_is_opened_and_left_open(
    new_mailbox: NewMailbox, dsn: str
) -> None:
    pool: AsyncConnectionPool[Any] = AsyncConnectionPool(dsn, min_size=1, open=False)
    mailbox = new_mailbox(pool)
    try:
        await mailbox.enqueue({})
        await mailbox.close()
        assert not pool.closed
    finally:
        await pool.close()


# --- databases that do not answer, or not as they should ------------------------------------


async def test_a_database_that_cannot_be_reached_is_unavailable_and_says_where(
    new_mailbox: NewMailbox,
) -> None:
    mailbox = new_mailbox("postgresql://u:secret@127.0.0.1:1/nowhere")
    with pytest.raises(Unavailable) as error:
        await mailbox.enqueue({})
    assert "127.0.0.1" in str(error.value)
    assert "secret" not in str(error.value)


async def test_a_database_that_was_not_migrated_is_a_mismatch(
    new_mailbox: NewMailbox, empty_dsn: str
) -> None:
    mailbox = new_mailbox(empty_dsn)
    with pytest.raises(SchemaMismatch, match="no pgmailbox in schema pgmailbox"):
        await mailbox.open()
    with pytest.raises(SchemaMismatch):
        await mailbox.start_lifecycle_ready()


async def test_a_mailbox_opens_once_however_many_need_it_first(mailbox: Mailbox) -> None:
    sent = await asyncio.gather(*(mailbox.enqueue({"n": n}) for n in range(30)))
    assert sorted(d.payload["n"] for d in sent) == list(range(30))
    await mailbox.open()


async def test_a_closed_mailbox_opens_again_when_it_is_used(mailbox: Mailbox) -> None:
    async with mailbox:
        await mailbox.enqueue({})
    await mailbox.close()
    assert (await mailbox.enqueue({})).status == "queued"


@pytest.mark.parametrize("factory", [psycopg.AsyncClientCursor, psycopg.AsyncRawCursor])
async def test_a_cursor_factory_of_the_callers_connection_does_not_matter(
    mailbox: Mailbox, dsn: str, factory: type[psycopg.AsyncCursor[Any]]
) -> None:
    async with await AsyncConnection.connect(dsn, cursor_factory=factory) as connection:
        assert (await mailbox.enqueue({"n": 1}, connection=connection)).payload == {"n": 1}
        assert len(await mailbox.enqueue_many([{}] * 2500, connection=connection)) == 2500


async def test_nor_does_that_of_a_pool(new_mailbox: NewMailbox, dsn: str) -> None:
    kwargs = {"cursor_factory": psycopg.AsyncClientCursor}
    async with AsyncConnectionPool(dsn, kwargs=kwargs, open=False) as pool:
        mailbox = new_mailbox(pool)
        mailbox.handler("default")(lambda dispatch: dispatch.payload)
        async with running(mailbox):
            done = await until_status(mailbox, await mailbox.enqueue({"n": 1}), "acked")
        assert done.run_response == {"n": 1}


@pytest.mark.parametrize("autocommit", [False, True])
async def test_what_is_no_connection_or_pool_of_psycopgs_is_refused_by_name(
    mailbox: Mailbox, dsn: str, autocommit: bool
) -> None:
    with psycopg.connect(dsn, autocommit=autocommit) as connection:
        with pytest.raises(InvalidArgument, match="AsyncConnection, not a Connection"):
            await mailbox.enqueue({}, connection=connection)  # type: ignore[arg-type]
        with pytest.raises(InvalidArgument, match="AsyncConnection, not a Connection"):
            await mailbox.enqueue_many([{}] * 2500, connection=connection)  # type: ignore[arg-type]
    for given in (None, ConnectionPool(dsn, open=False)):
        with pytest.raises(InvalidArgument, match="AsyncConnectionPool"):
            Mailbox(given)  # type: ignore[arg-type]
    for wrong in (None, AsyncConnectionPool(dsn, open=False)):
        with pytest.raises(InvalidArgument, match="ConnectionPool"):
            SyncMailbox(wrong)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match="iterable"):
        await mailbox.enqueue_many(None)  # type: ignore[arg-type]


async def test_a_payload_that_is_not_given_is_empty(mailbox: Mailbox, dsn: str) -> None:
    assert (await mailbox.enqueue(kind="tick")).payload == {}
    [sent] = await mailbox.enqueue_many([EnqueueRequest(kind="tick")])
    assert sent.payload == {}
    with SyncMailbox(dsn) as other:
        assert other.enqueue(kind="tick").payload == {}


@pytest.mark.parametrize("priority", [True, 1.5, 2**31, "high"])
async def test_a_priority_is_a_whole_number_wherever_it_is_said(
    mailbox: Mailbox,
    priority: Any,  # noqa: ANN401 - whatever it is
) -> None:
    for attempt in (
        mailbox.enqueue({}, priority=priority),
        mailbox.enqueue_many([{"priority": priority}]),
        mailbox.submit("t", [{"text": "x"}], priority=priority),
        mailbox.create_run("t", priority=priority),
    ):
        with pytest.raises(InvalidArgument, match="priority"):
            await attempt


def plain_adapters() -> AdaptersMap:
    """Adapters as an application may have copied them before it imported pgmailbox."""
    adapters = AdaptersMap(types=postgres.types)
    postgres.register_default_adapters(adapters)
    return adapters


async def test_a_pool_whose_adapters_were_copied_beforehand_will_do(
    new_mailbox: NewMailbox, dsn: str
) -> None:
    async with AsyncConnectionPool(
        dsn, kwargs={"context": plain_adapters(), "autocommit": True}, open=False
    ) as pool:
        mailbox = new_mailbox(pool)
        mailbox.handler("default")(lambda dispatch: dispatch.payload)
        async with running(mailbox):
            sent = await mailbox.enqueue({"n": 1})
            done = await until_status(mailbox, sent, "acked", "dead_letter")
    assert (done.status, done.run_response) == ("acked", {"n": 1})


async def test_an_applications_own_arrays_of_ids_are_left_alone(dsn: str) -> None:
    async with await AsyncConnection.connect(dsn) as connection:
        await connection.execute("create temporary table own (ids uuid[])")
        ids = [uuid4(), uuid4()]
        async with connection.cursor() as cursor:
            async with cursor.copy("copy own from stdin (format binary)") as copy:
                copy.set_types(["uuid[]"])
                await copy.write_row((ids,))
            await cursor.execute("select ids from own")
            assert await cursor.fetchall() == [(ids,)]


async def test_the_listening_session_is_of_the_pools_own_class(
    new_mailbox: NewMailbox, dsn: str, conn: Connection
) -> None:
    class Named(AsyncConnection[Any]):
        @classmethod
        async def connect(cls, conninfo: str = "", **kwargs: Any) -> Any:  # noqa: ANN401
            return await super().connect(conninfo, **{**kwargs, "application_name": "by class"})

    async with AsyncConnectionPool(dsn, connection_class=Named, open=False) as pool:
        mailbox = new_mailbox(pool)
        mailbox.handler("default")(lambda _: None)
        async with running(mailbox):
            query = "select backend_pid from pgmailbox.consumer where backend_pid is not null"
            await wait_until_async(lambda: rows(conn, query))
            listening = one(conn, query)["backend_pid"]
            who = "select application_name from pg_stat_activity where pid = %s"
            assert one(conn, who, [listening])["application_name"] == "by class"


class _OwnJson(JsonbBinaryDumper):
    """A dumper that does not ask how the value wants to be dumped."""

    def dump(self, obj: Any) -> bytes:  # noqa: ANN401 - as there
        return b"\x01" + json.dumps(obj.obj).encode()


async def test_a_dumper_of_the_applications_own_gets_the_payload(
    mailbox: Mailbox, dsn: str
) -> None:
    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        connection.adapters.register_dumper(Jsonb, _OwnJson)
        sent = await mailbox.enqueue({"a": 1}, connection=connection)
    assert (await load(mailbox, sent.dispatch_id)).payload == {"a": 1}


async def test_a_priority_may_be_of_an_int_enum(mailbox: Mailbox) -> None:
    class Priority(IntEnum):
        HIGH = 3

    sent = await mailbox.enqueue({}, priority=Priority.HIGH)
    assert type(sent.priority) is int
    assert sent.priority == 3
