"""The admin client asks one node once, and says what may be concluded from what came back."""

import asyncio
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chaos.admin_client import AdminAccess, AdminAnswer
from chaos.history import Outcome
from cli import layout

Run = Callable[[Any], Any]
OK = b'HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n{"a": 1}'


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> layout.Cluster:
    return layout.create(tmp_path_factory.mktemp("admin") / "cluster", 1, 11000)


def server_context(cluster: layout.Cluster) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cluster.nodes[0].folder / "node.pem", cluster.nodes[0].folder / "node.key")
    return context


async def ask(
    cluster: layout.Cluster, answer: bytes, method: str, node: str, timeout_s: float = 10.0
) -> tuple[AdminAnswer, list[bytes]]:
    received: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.append(await reader.read(1000))
        if answer != b"wait":
            writer.write(answer)
            writer.close()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=server_context(cluster))
    endpoint = f"127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    try:
        access = AdminAccess.of_folder(cluster.folder)
        return await access.ask(node, endpoint, method, "/v1/x", {"b": 2}, timeout_s), received
    finally:
        listener.close()


def error(status: bytes, category: bytes) -> bytes:
    body = b'{"category": "%b", "detail": "m", "hint": ""}' % category
    return b"HTTP/1.0 %b X\r\n\r\n%b" % (status, body)


@pytest.mark.parametrize(
    ("answer", "outcome", "category"),
    [
        (OK, Outcome.ACKNOWLEDGED, ""),
        (error(b"409", b"conflict"), Outcome.REFUSED, "conflict"),
        (error(b"503", b"rejected"), Outcome.REFUSED, "rejected"),
        (error(b"504", b"unknown"), Outcome.UNKNOWN, "unknown"),
        (error(b"500", b"internal"), Outcome.UNKNOWN, "internal"),
        (OK[:-3], Outcome.UNKNOWN, ""),
        (b"", Outcome.UNKNOWN, ""),
    ],
    ids=["ok", "conflict", "rejected", "unknown", "internal", "cut off", "nothing"],
)
def test_an_outcome_is_as_strong_as_the_answer(
    run: Run, cluster: layout.Cluster, answer: bytes, outcome: Outcome, category: str
) -> None:
    found, received = run(ask(cluster, answer, "POST", "n1"))
    assert (found.outcome, found.category) == (outcome, category)
    assert received[0].startswith(b"POST /v1/x HTTP/1.0\r\n")
    assert received[0].endswith(b'{"b": 2}')


def test_a_read_that_failed_changed_nothing(run: Run, cluster: layout.Cluster) -> None:
    assert run(ask(cluster, b"", "GET", "n1"))[0].outcome is Outcome.REFUSED


def test_a_node_that_does_not_answer_in_time_may_have_done_it(run: Run, cluster: layout.Cluster) -> None:
    assert run(ask(cluster, b"wait", "POST", "n1", timeout_s=0.5))[0].outcome is Outcome.UNKNOWN


def test_an_answer_says_if_it_may_be_old(run: Run, cluster: layout.Cluster) -> None:
    assert not run(ask(cluster, OK, "GET", "n1"))[0].stale
    assert run(ask(cluster, OK.replace(b"Content-Type: application/json", b"Mailraft-Stale: 1"), "GET", "n1"))[0].stale


def test_another_node_than_the_one_that_was_meant_is_asked_nothing(run: Run, cluster: layout.Cluster) -> None:
    found, received = run(ask(cluster, OK, "POST", "n2"))
    assert found.outcome is Outcome.REFUSED
    assert received in ([], [b""])


def test_what_nobody_listens_to_was_not_asked(run: Run, cluster: layout.Cluster) -> None:
    access = AdminAccess.of_folder(Path(cluster.folder))
    assert run(access.ask("n1", "127.0.0.1:1", "POST", "/v1/x")).outcome is Outcome.REFUSED
