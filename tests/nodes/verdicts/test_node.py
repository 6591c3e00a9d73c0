"""A whole node with the configuration of a machine on port 25: mail judged, reports collected, sent and received."""

from __future__ import annotations

import asyncio
import smtplib
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from chaos.cluster import free_base_port
from cli import layout
from cli.client import AdminClient
from nodes.config import sources as config_sources
from nodes.config.node import split_address
from nodes.server import Node
from tests.nodes.reports import samples
from tests.nodes.verdicts.letters import letter
from tests.peers.dns_server import DnsServer

Run = Callable[[Coroutine[Any, Any, Any]], Any]
ZONE = """
sender.test. TXT "v=spf1 ip4:127.0.0.1 -all"
_dmarc.sender.test. TXT "v=DMARC1; p=reject; rua=mailto:d@sender.test"
evil.test. TXT "v=spf1 -all"
_dmarc.evil.test. TXT "v=DMARC1; p=reject"
"""


def serving(run: Run, folder: Path, names: DnsServer, ask: Callable[[AdminClient, str], None]) -> None:
    cell = layout.create(folder, 1, free_base_port(1))
    settings = ("verdicts.judge=always", f"dns.nameservers={names.address}", "node.hostname=mx.example.test")

    async def session() -> None:
        async with Node(config_sources.load(cell.nodes[0].config, {}, settings)).running() as state:
            async with asyncio.timeout(15):
                while state.unready():
                    await asyncio.sleep(0.05)
            await asyncio.to_thread(ask, AdminClient(cell), state.endpoints["smtp"])

    run(session())


def deliver(address: str, data: bytes, sender: str) -> None:
    with smtplib.SMTP(*split_address(address), local_hostname="mx.sender.test") as client:
        client.sendmail(sender, ["alice@example.test"], data)


def test_a_node_judges_mail_and_deals_in_reports(run: Run, tmp_path: Path) -> None:
    def ask(client: AdminClient, smtp: str) -> None:
        client.change("POST", "/v1/tenants", {"name": "example", "domains": ["example.test"]})
        client.change("POST", "/v1/accounts", {"address": "alice@example.test", "password": "password 1"})
        wanted = {"sender": "alice@example.test", "addresses": ["alice@example.test"]}
        client.change("PUT", "/v1/reports/settings", wanted)
        deliver(smtp, letter("a@sender.test"), "a@sender.test")
        (event,) = client.get("/v1/log?last=1")["records"][0]["events"]
        assert event["data"]["verdicts"]["dmarc"]["result"] == "pass"
        assert event["data"]["trace"].startswith(
            "Return-Path: <a@sender.test>\r\nAuthentication-Results: mx.example.test;"
        )
        with pytest.raises(smtplib.SMTPDataError, match=r"5\.7\.26"):
            deliver(smtp, letter("a@evil.test"), "a@evil.test")
        assert client.change("POST", "/v1/reports/send", {"today": True}) == {"outcomes": {"sent": 1}}
        events = [one for record in client.get("/v1/log?last=20")["records"] for one in record.get("events", ())]
        assert [one["data"]["domain"] for one in events if one["type"] == "MailQueued"] == ["sender.test"]
        client.change("PUT", "/v1/verdicts", {"dmarc": "mark"})
        deliver(smtp, letter("a@evil.test"), "a@evil.test")
        deliver(smtp, samples.aggregate(), "a@sender.test")
        (report,) = client.get("/v1/reports?kind=dmarc")["reports"]
        assert report["totals"] == {"messages": 42, "passed": 12}

    with DnsServer(ZONE) as names:
        serving(run, tmp_path / "cell", names, ask)
