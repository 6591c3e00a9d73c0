"""A whole node among domains with MTA-STS and DANE: what it sends waits where nothing is proved, its doctor knows."""

from __future__ import annotations

import asyncio
import json
import smtplib
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, NamedTuple

from click.testing import CliRunner

from chaos.cluster import free_base_port
from cli import layout
from cli.client import AdminClient
from cli.main import main
from nodes.config import sources as config_sources
from nodes.reports.incoming import understand
from nodes.server import Node
from tests.peers import certificates
from tests.peers.dns_server import DnsServer
from tests.peers.https_peer import HttpsPeer
from tests.peers.smtp_peer import SmtpPeer

Run = Callable[[Coroutine[Any, Any, Any]], Any]
ALICE = "alice@example.test"
CA = certificates.authority()
ANYBODY = certificates.server("elsewhere.test")  # self-signed, for another name
OURS = certificates.server("mx.example.test", issuer=CA)
WEB = certificates.server("mta-sts.strict.test", "mta-sts.example.test", issuer=CA)
PATH = "/.well-known/mta-sts.txt"
POLICY = "version: STSv1\r\nmode: {mode}\r\nmx: {mx}\r\nmax_age: 604800\r\n"
ZONE = "".join(
    f"{name}.test. 0 MX 10 mx.{name}.test.\nmx.{name}.test. 0 A 127.0.0.1\n"
    for name in ("example", "strict", "named", "plain")
) + (
    "mta-sts.strict.test. 0 A 127.0.0.1\nmta-sts.example.test. 0 A 127.0.0.1\n"
    '_mta-sts.strict.test. 0 TXT "v=STSv1; id=1;"\n_mta-sts.example.test. 0 TXT "v=STSv1; id=1;"\n'
    '_smtp._tls.strict.test. 0 TXT "v=TLSRPTv1; rua=mailto:tls@plain.test"\n'
)


class Site(NamedTuple):
    cell: str
    client: AdminClient
    endpoints: dict[str, str]
    dns: DnsServer
    web: HttpsPeer

    def items(self) -> dict[str, dict[str, Any]]:
        return {one["domain"]: one for one in self.client.get("/v1/queue")["items"]}

    def waits_for(self, domain: str) -> str:
        """What the queue says once an attempt has failed."""
        deadline_s = time.monotonic() + 30
        while not (item := self.items()[domain])["attempts"]:
            assert time.monotonic() < deadline_s
            time.sleep(0.05)
        return str(item["recipients"][0]["reason"])


def at_site(run: Run, folder: Path, peer_port: int, story: Callable[[Site], None]) -> None:
    """`peer_port`: where other servers listen; 0: where the node does, as its own MX."""
    (folder / "ca.pem").write_bytes(CA.pem)
    (folder / "mx.pem").write_bytes(OURS.pem + CA.pem)
    (folder / "mx.key").write_bytes(OURS.key_pem)
    (folder / "mx.key").chmod(0o600)
    cell = layout.create(folder / "cell", 1, free_base_port(1))
    port = peer_port or int(cell.nodes[0].addresses["smtp"].rpartition(":")[2])

    async def session(dns: DnsServer, web: HttpsPeer) -> None:
        settings = (
            "node.hostname=mx.example.test",
            f"tls.server_certificate={folder / 'mx.pem'}",
            f"tls.server_key={folder / 'mx.key'}",
            "auth.plaintext_without_tls=loopback",
            f"dns.nameservers={dns.address}",
            "dns.trust_ad=true",
            f"delivery.port={port}",
            f"delivery.trust={folder / 'ca.pem'}",
            f"delivery.mta_sts_port={web.port}",
        )
        async with Node(config_sources.load(cell.nodes[0].config, {}, settings)).running() as state:
            async with asyncio.timeout(30):
                while state.unready():
                    await asyncio.sleep(0.05)
            site = Site(str(folder / "cell"), AdminClient(cell), dict(state.endpoints), dns, web)
            await asyncio.to_thread(_populate, site.client)
            await asyncio.to_thread(story, site)

    with (
        DnsServer(ZONE, secure=["example.test", "named.test"]) as dns,
        HttpsPeer({PATH: POLICY.format(mode="enforce", mx="mx.strict.test")}, certificates.context(folder, WEB)) as web,
    ):
        run(session(dns, web))


def _populate(client: AdminClient) -> None:
    client.change("POST", "/v1/tenants", {"name": "example", "domains": ["example.test"]})
    client.change("POST", "/v1/accounts", {"address": ALICE, "password": "correct horse"})
    client.change("PUT", "/v1/reports/settings", {"sender": ALICE})


def test_mail_waits_where_nothing_is_proved_goes_when_that_is_put_right_and_is_in_the_report(
    run: Run, tmp_path: Path
) -> None:
    def story(site: Site) -> None:
        site.dns.add(f"_{peer.port}._tcp.mx.named.test. 0 TLSA {OURS.tlsa(3, 1, 1)}")
        host, _, port = site.endpoints["submission"].rpartition(":")
        with smtplib.SMTP(host, int(port)) as client:
            client.login(ALICE, "correct horse")
            client.sendmail(ALICE, [f"bob@{name}.test" for name in ("plain", "strict", "named")], b"Subject: x\r\n\r\n")
        reasons = [site.waits_for(f"{name}.test") for name in ("strict", "named")]
        assert "certificate" in reasons[0], reasons
        assert "no TLSA record fits" in reasons[1], reasons
        assert set(site.items()) == {"strict.test", "named.test"}
        assert [one.rcpts for one in peer.taken] == [("RCPT TO:<bob@plain.test>",)]
        site.dns.add(f"_{peer.port}._tcp.mx.named.test. 0 TLSA {ANYBODY.tlsa(3, 1, 1)}")
        site.web.texts[PATH] = POLICY.format(mode="testing", mx="mx.strict.test")
        site.dns.add('_mta-sts.strict.test. 0 TXT "v=STSv1; id=2;"')
        ids = [one["id"] for one in site.items().values()]
        site.client.change("POST", "/v1/queue/actions", {"action": "retry", "ids": ids})
        deadline_s = time.monotonic() + 30
        while site.items():
            assert time.monotonic() < deadline_s
            time.sleep(0.05)
        assert sorted(one.rcpts[0] for one in peer.taken[1:]) == [
            "RCPT TO:<bob@named.test>",
            "RCPT TO:<bob@strict.test>",
        ]
        assert all(one.tls for one in peer.taken)
        assert site.client.change("POST", "/v1/reports/send", {"today": True})["outcomes"]["sent"] == 1
        while len(peer.taken) < 4:
            assert time.monotonic() < deadline_s
            time.sleep(0.05)
        assert peer.taken[3].rcpts == ("RCPT TO:<tls@plain.test>",)
        report = understand(peer.taken[3].data)
        assert (report.kind, report.domain) == ("tls", "strict.test")
        assert {row["result"] for row in report.content["rows"]} == {"certificate-not-trusted"}

    with SmtpPeer(tls=certificates.context(tmp_path, ANYBODY)) as peer:
        at_site(run, tmp_path, peer.port, story)


def told(site: Site) -> tuple[int, set[str]]:
    """How `mailraft doctor` ends, and what it finds wrong."""
    asked = CliRunner().invoke(main, ["doctor", "example.test", "--cluster", site.cell, "--json"])
    found = json.loads(asked.stdout)["findings"]
    areas = {one["area"] for one in found}
    assert areas == {"MX", "reverse DNS", "port", "SPF", "DKIM", "DMARC", "MTA-STS", "TLS-RPT", "DANE"}
    return asked.exit_code, {one["area"] for one in found if one["status"] not in ("ok", "note")}


def test_the_doctor_finds_everything_of_a_right_domain_in_order(run: Run, tmp_path: Path) -> None:
    def story(site: Site) -> None:
        smtp = int(site.endpoints["smtp"].rpartition(":")[2])
        made = site.client.change("POST", "/v1/dkim/example.test/keys", {})["keys"]
        site.web.texts[PATH] = POLICY.format(mode="enforce", mx="mx.example.test")
        site.dns.add("\n".join(one["zone_line"].replace(" 3600 IN ", " 0 ") for one in made))
        site.dns.add(
            "1.0.0.127.in-addr.arpa. 0 PTR mx.example.test.\n"
            'example.test. 0 TXT "v=spf1 mx -all"\n'
            '_dmarc.example.test. 0 TXT "v=DMARC1; p=reject; rua=mailto:alice@example.test"\n'
            '_smtp._tls.example.test. 0 TXT "v=TLSRPTv1; rua=mailto:alice@example.test"\n'
            f"_{smtp}._tcp.mx.example.test. 0 TLSA {OURS.tlsa(3, 1, 1)}\n"
        )
        assert told(site) == (1, {"DKIM"})  # the keys are not active yet
        site.client.change("POST", "/v1/dkim/example.test/validate", {})
        assert told(site) == (0, set())
        site.dns.add(f"_{smtp}._tcp.mx.example.test. 0 TLSA {ANYBODY.tlsa(3, 1, 1)}\n")
        assert told(site) == (1, {"DANE"})

    at_site(run, tmp_path, 0, story)
