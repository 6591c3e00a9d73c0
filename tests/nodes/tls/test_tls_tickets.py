"""Sessions go on at another node, and after the keys have changed; asked by OpenSSL's own client."""

from __future__ import annotations

import asyncio
import shutil
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from nodes.tls.cell_authority import create_authority, issue_node
from nodes.tls.front import server_side
from nodes.tls.tickets import PERIOD_S, Tickets

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
SECRET, OTHER = bytes(32), bytes(31) + b"\1"
START_S = 1_700_000_000.0


class Front:
    """A listener of one node, whose clock stands where the test puts it."""

    def __init__(self, folder: Path, secret: bytes = SECRET) -> None:
        self.now_s = START_S
        self.context = server_side()
        self.context.load_cert_chain(folder / "node.pem", folder / "node.key")
        assert Tickets(secret, lambda: self.now_s).serve(self.context)

    async def __aenter__(self) -> Front:
        self.server = await asyncio.start_server(_greet, "127.0.0.1", 0, ssl=self.context)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self.server.close()
        await self.server.wait_closed()

    async def asked(self, *arguments: str) -> str:
        """What `openssl s_client` says: "New" or "Reused", and the rest."""
        command = ("openssl", "s_client", "-connect", f"127.0.0.1:{self.port}", "-ign_eof", *arguments)
        pipe = asyncio.subprocess.PIPE
        client = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, stderr=pipe)
        out, _ = await asyncio.wait_for(client.communicate(), 30)
        return out.decode(errors="replace")


async def _greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"hello\r\n")
    writer.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    issue_node(create_authority(tmp_path, "test"), tmp_path, "test", "n1", ["localhost"])
    return tmp_path


async def resumed(folder: Path, version: str, later_s: float, secret: bytes = SECRET) -> bool:
    """Whether a session of one node goes on at another, whose clock is so much later."""
    kept = str(folder / "session.pem")
    async with Front(folder) as first, Front(folder, secret) as second:
        assert "New, TLSv1" in await first.asked(version, "-sess_out", kept)
        second.now_s += later_s
        return "Reused, TLSv1" in await second.asked(version, "-sess_in", kept)


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
@pytest.mark.parametrize("later_s", [0, PERIOD_S, -PERIOD_S])
def test_a_session_goes_on_at_another_node_and_after_the_keys_have_changed(
    folder: Path, run: Callable[[Awaitable[Any]], Any], version: str, later_s: float
) -> None:
    assert run(resumed(folder, version, later_s))


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_a_session_of_two_periods_ago_begins_anew(
    folder: Path, run: Callable[[Awaitable[Any]], Any], version: str
) -> None:
    assert not run(resumed(folder, version, 2 * PERIOD_S))


def test_a_session_of_another_cell_begins_anew(folder: Path, run: Callable[[Awaitable[Any]], Any]) -> None:
    assert not run(resumed(folder, "-tls1_3", 0, OTHER))


def test_each_period_has_keys_of_its_own() -> None:
    tickets = Tickets(SECRET)
    keys = [tickets.key(period) for period in range(4)]
    assert len({part for key in keys for part in key}) == 12
    assert Tickets(SECRET).key(2) == keys[2]


def test_a_context_that_can_not_be_reached_keeps_its_own_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nodes.tls.libssl.words", lambda object_, count: [])
    assert Tickets(SECRET).serve(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)) is False
