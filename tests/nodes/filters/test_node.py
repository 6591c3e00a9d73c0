"""A whole node with filters: what they say stands in its log, and its status names the one that is down."""

from __future__ import annotations

import asyncio
import smtplib
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from chaos.cluster import free_base_port
from cli import layout
from cli.client import AdminClient
from cli.main import main
from nodes.config import sources as config_sources
from nodes.config.node import split_address
from nodes.server import Node
from tests.nodes.filters.filtered import ALICE, LETTER
from tests.peers.milter_peer import MilterPeer, packet
from tests.peers.scanner_peers import ClamdPeer, RspamdPeer

Run = Callable[[Coroutine[Any, Any, Any]], Any]


def deliver(address: str) -> None:
    with smtplib.SMTP(*split_address(address), local_hostname="mx.remote.test") as client:
        client.sendmail("a@remote.test", [ALICE], LETTER)


def test_a_node_asks_its_filters_and_says_how_they_are(run: Run, tmp_path: Path) -> None:
    cell = layout.create(tmp_path / "cell", 1, free_base_port(1))

    def ask(client: AdminClient, smtp: str, clamd: ClamdPeer, rspamd: RspamdPeer) -> None:
        client.change("POST", "/v1/tenants", {"name": "example", "domains": ["example.test"]})
        client.change("POST", "/v1/accounts", {"address": ALICE, "password": "password 1"})
        deliver(smtp)
        (event,) = client.get("/v1/log?last=1")["records"][0]["events"]
        assert event["data"]["verdicts"]["filters"] == {
            "clamav": {"found": ""},
            "scripted": {"action": "continue"},
            "rspamd": {"action": "no action", "score": 0.1, "required": 15.0, "symbols": {}},
        }
        assert client.get("/v1/status")["filters"] == {"clamav": "up", "scripted": "up", "rspamd": "up"}
        rspamd.answer = {"action": "reject"}
        with pytest.raises(smtplib.SMTPDataError, match="Refused as spam"):
            deliver(smtp)
        clamd.hang_up()
        with pytest.raises(smtplib.SMTPDataError, match="A filter is not available"):
            deliver(smtp)
        told = CliRunner().invoke(main, ["cluster", "status", str(tmp_path / "cell")]).output
        assert "n1  filter clamav is down: can not be reached: " in " ".join(told.split("\n"))

    async def session(milter: MilterPeer, clamd: ClamdPeer, rspamd: RspamdPeer) -> None:
        settings = (
            f"filters.rspamd={rspamd.address}",
            f"filters.clamav={clamd.address}",
            f"filters.milters=scripted={milter.address}",
        )
        async with Node(config_sources.load(cell.nodes[0].config, {}, settings)).running() as state:
            async with asyncio.timeout(60):
                while state.unready():
                    await asyncio.sleep(0.05)
            await asyncio.to_thread(ask, AdminClient(cell), state.endpoints["smtp"], clamd, rspamd)

    with MilterPeer() as milter, ClamdPeer() as clamd, RspamdPeer() as rspamd:
        milter.begin({"E": [packet("h", b"X-Scripted\0yes\0"), packet("c")]})
        run(session(milter, clamd, rspamd))
