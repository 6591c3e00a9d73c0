"""What is no HTTP, or too long, is answered with a problem like everything else, counted, and never quoted."""

import asyncio
import contextlib
import json
import re

import pytest
from aiohttp import web

from nodes.http import listener
from nodes.http.errors import REFUSALS, answer_errors
from nodes.metrics import Metrics
from nodes.refusals import Refusals
from tests.nodes.test_refusals import Lines

SECRET = "s3cret-token"


async def said(data: bytes, lines: Lines, metrics: Metrics) -> tuple[str, bytes]:
    """The answer's head and body, of a listener with an application that has no paths."""
    app = web.Application(middlewares=[answer_errors])
    app[REFUSALS] = Refusals(metrics, lines)
    started = await listener.start(app, "127.0.0.1:0", kind="admin")
    try:
        host, port = started.address.rsplit(":", 1)
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(data)
        answer = await asyncio.wait_for(reader.read(), 10)
        writer.close()
    finally:
        await started.stop(1.0)
    head, _, body = answer.partition(b"\r\n\r\n")
    return head.decode(), body


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (f"AUTH {SECRET}\r\n\r\n".encode(), "no_http"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 20 + b"\r\n\r\n", "no_http"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: minus\r\n\r\n", "no_http"),
        (
            b"GET /" + SECRET.encode() + b"x" * listener.MOST_LINE_BYTES + b" HTTP/1.1\r\nHost: a\r\n\r\n",
            "request_too_long",
        ),
        (b"GET / HTTP/1.1\r\nHost: a\r\nAuthorization: " + SECRET.encode() * 5000 + b"\r\n\r\n", "request_too_long"),
    ],
)
def test_what_is_no_http_is_a_problem(data: bytes, code: str) -> None:
    lines, metrics = Lines(), Metrics("n1")
    head, body = asyncio.run(said(data, lines, metrics))
    assert head.split()[1] == "400"
    assert "application/problem+json" in head
    problem = json.loads(body)
    assert (problem["code"], problem["category"], problem["status"]) == (code, "bad_request", 400)
    assert re.fullmatch(r"urn:mailraft:session:[0-9a-f]{32}", problem["instance"])
    assert [line["code"] for line in lines.all] == [code]
    assert SECRET not in body.decode() + repr(lines.all)
    assert f'code="{code}",severity="info"}} 1.0' in metrics.exposition().decode()


def test_a_path_that_there_is_not_is_a_problem_of_the_same_connection_s_id() -> None:
    lines, metrics = Lines(), Metrics("n1")
    request = b"GET /nowhere?token=s3cret-token HTTP/1.1\r\nHost: a\r\n"
    _, body = asyncio.run(said(request + b"Connection: close\r\n\r\n", lines, metrics))
    assert (json.loads(body)["code"], json.loads(body)["category"]) == ("no_such_path", "not_found")
    assert lines.all == [{"event": "refused", "code": "no_such_path", "method": "GET", "path": "/nowhere"}]


async def at_a_full_door(ours: bool) -> tuple[bytes, list[str]]:
    """What a client is answered while strangers hold as many connections as there may be, and what the log says."""
    lines = Lines()
    app = web.Application(middlewares=[answer_errors])
    app[REFUSALS] = Refusals(Metrics("n1"), lines)
    app[listener.DOOR] = listener.Door(lambda: 2, lambda _tls: ours)
    started = await listener.start(app, "127.0.0.1:0", kind="admin")
    host, port = started.address.rsplit(":", 1)
    flood = [await asyncio.open_connection(host, int(port)) for _ in range(2)]
    try:
        reader, writer = await asyncio.open_connection(host, int(port))
        with contextlib.suppress(ConnectionError):
            writer.write(b"GET /nowhere HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            return await asyncio.wait_for(reader.read(), 10), [line["code"] for line in lines.all]
        return b"", [line["code"] for line in lines.all]
    finally:
        for _, held in flood:
            held.close()
        await started.stop(1.0)


def test_a_flood_of_connections_closes_strangers_and_lets_an_administrator_in() -> None:
    assert asyncio.run(at_a_full_door(ours=False)) == (b"", ["too_many_connections"])
    answer, codes = asyncio.run(at_a_full_door(ours=True))
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert codes == ["no_such_path"]
