"""A source that lies: with a node's own certificate it sends what it should not, and the follower takes none of it."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from actors.kind import encode
from actors.mailbox import MailboxOpened
from actors.names import NameClaimed, name_stream
from actors.region import REGION, GrantIssued
from eventlog.record import Event, chain_hash, event_commitment
from eventlog.store import GENESIS
from nodes.follower import wire
from tests.nodes.follower.test_two_cells import Pair, two_cells

Run = Callable[[Coroutine[Any, Any, Any]], Any]
AT_MS = 1_790_000_000_000
HEADER = b"\x95"
STRANGER = b"s" * 16


def entry(event: Event) -> wire.Entry:
    """A first record with one event, in a chain that fits."""
    leaves = [sha256(HEADER).digest(), event_commitment(event)]
    chain = chain_hash(GENESIS, 1, 1, 0, AT_MS, 0, leaves)
    return wire.Entry((1, 1, 0, AT_MS, 0), chain, leaves[0], False, (tuple(event),), (), (), ())


@asynccontextmanager
async def forged(pair: Pair, frame: wire.Frame) -> AsyncIterator[dict[str, Any]]:
    """The grant, but what answers sends this frame."""
    folder = pair.source.folder.nodes[0].folder
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "node.pem", folder / "node.key")

    async def follow(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(wire.pack(frame))
        await asyncio.Event().wait()  # as a source does that has no more: the stream stays open
        return response

    app = web.Application()
    app.router.add_get("/v1/follow", follow)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    grant = json.loads(pair.grant.read_text())
    try:
        yield {**grant, "endpoints": {"n1": f"127.0.0.1:{runner.addresses[0][1]}"}}
    finally:
        await runner.cleanup()


def tenant_of(pair: Pair) -> bytes:
    return bytes.fromhex(json.loads(pair.grant.read_text())["tenant"])


def on(tenant: bytes, stream: bytes, fact: Any) -> Event:
    return Event(tenant, stream, fact.TYPE, fact.VERSION, encode(fact), bytes(16))


@pytest.mark.parametrize("what", ["another tenant", "the region", "another's name"])
def test_it_can_not_write_on_the_streams_of_others(run: Run, tmp_path: Path, what: str) -> None:
    async def story(pair: Pair) -> None:
        ours = tenant_of(pair)
        event = {
            "another tenant": on(STRANGER, STRANGER, MailboxOpened(STRANGER, "eve@other.test", (), None)),
            "the region": on(ours, REGION, GrantIssued("x", STRANGER, b"", bytes(32), AT_MS, b"")),
            "another's name": on(
                ours, name_stream("domain:a.test"), NameClaimed("domain:b.test", ours, ours, "domain")
            ),
        }[what]
        async with forged(pair, entry(event)) as grant:
            await pair.follower.ask("POST", "/v1/region/follows", grant)
            halted = await pair.follower.followed(lambda one: one["state"] == "halted")
            assert "was not granted" in halted["reason"]
            assert halted["records"] == 0

    two_cells(run, tmp_path, story)


def test_an_event_type_of_a_later_version_holds_the_follower_up(run: Run, tmp_path: Path) -> None:
    async def story(pair: Pair) -> None:
        ours = tenant_of(pair)
        async with forged(pair, entry(Event(ours, ours, "PigsFlew", 1, b"\x90", bytes(16)))) as grant:
            await pair.follower.ask("POST", "/v1/region/follows", grant)
            blocked = await pair.follower.followed(lambda one: one["state"] == "blocked")
            assert "PigsFlew, which this version does not know: upgrade this cell" in blocked["reason"]

    two_cells(run, tmp_path, story)


def test_a_record_that_does_not_fit_the_chain_ends_it(run: Run, tmp_path: Path) -> None:
    async def story(pair: Pair) -> None:
        ours = tenant_of(pair)
        event = on(ours, ours, MailboxOpened(ours, "eve@example.test", (), None))
        async with forged(pair, entry(event)._replace(chain=bytes(32))) as grant:
            await pair.follower.ask("POST", "/v1/region/follows", grant)
            halted = await pair.follower.followed(lambda one: one["state"] == "halted")
            assert "does not verify at position 1" in halted["reason"]

    two_cells(run, tmp_path, story)
