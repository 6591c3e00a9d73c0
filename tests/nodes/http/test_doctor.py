"""`mailraft doctor` asked of a running node: a domain whose MTA-STS and DANE are right, and the same gone wrong."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import structlog
from click.testing import CliRunner, Result

from actors.runtime import Context
from chaos.cluster import free_base_port
from cli import layout
from cli.main import main
from eventlog.record import By
from nodes.config import sources as config_sources
from nodes.delivery.policy_host import PATH
from nodes.server import Node
from tests.peers import certificates
from tests.peers.dns_server import DnsServer
from tests.peers.https_peer import HttpsPeer
from tests.peers.smtp_peer import SmtpPeer

Run = Callable[[Coroutine[Any, Any, Any]], Any]
ADMIN = Context(By("admin", b"", "test"), "test")
CA = certificates.authority()
MX = certificates.server("mx.one.test", issuer=CA)
SITE = certificates.server("mta-sts.one.test", issuer=CA)
POLICY = "version: STSv1\nmode: enforce\nmx: mx.one.test\nmax_age: 1209600\n"
ZONE = """
one.test. MX 10 mx.one.test.
mx.one.test. A 127.0.0.1
mta-sts.one.test. A 127.0.0.1
_mta-sts.one.test. TXT "v=STSv1; id=1"
one.test. TXT "v=spf1 ip4:192.0.2.0/25 -all"
9.2.0.192.in-addr.arpa. PTR out.one.test.
out.one.test. A 192.0.2.9
"""


def test_the_policy_and_the_certificates_are_looked_at_and_what_is_wrong_is_told(run: Run, tmp_path: Path) -> None:
    cell = layout.create(tmp_path / "cell", 1, free_base_port(1))
    (tmp_path / "ca.pem").write_bytes(CA.pem)

    def doctor(*words: str) -> Result:
        return CliRunner().invoke(main, ["doctor", "one.test", *words, "--cluster", str(cell.folder)])

    def examined() -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for one in json.loads(doctor("--json").stdout)["findings"]:
            found.setdefault(one["area"], set()).add(one["status"])
        return found

    with (
        SmtpPeer(tls=certificates.context(tmp_path, MX, CA)) as peer,
        HttpsPeer({PATH: POLICY}, certificates.context(tmp_path, SITE)) as site,
        DnsServer(f"{ZONE}_{peer.port}._tcp.mx.one.test. TLSA {CA.tlsa(2, 1, 2)}", secure=True) as dns,
    ):
        settings = {
            "MAILRAFT_DNS_NAMESERVERS": dns.address,
            "MAILRAFT_DNS_TRUST_AD": "true",
            "MAILRAFT_DNS_CACHE_BYTES": "65536",
            "MAILRAFT_DELIVERY_PORT": str(peer.port),
            "MAILRAFT_DELIVERY_MTA_STS_PORT": str(site.port),
            "MAILRAFT_DELIVERY_TRUST": str(tmp_path / "ca.pem"),
            "MAILRAFT_DELIVERY_SOURCES": "default=192.0.2.9/out.one.test 10.0.0.1, bulk=192.0.2.200",
        }

        def story() -> None:
            right = examined()
            assert (right["MTA-STS"], right["DANE"]) == ({"ok"}, {"ok"}), right
            site.texts[PATH] = POLICY.replace("mx: mx.", "mx: old.")
            wrong = doctor()
            assert wrong.exit_code == 1
            assert "does not name mx.one.test" in " ".join(wrong.output.split())
            put = f"to put at https://mta-sts.one.test{PATH}:\n\nversion: STSv1\nmode: enforce\nmx: mx.one.test\n"
            assert put in wrong.output
            assert "_dmarc.one.test. 3600 IN TXT" in wrong.output
            told = " ".join(wrong.output.split())
            for text in ("mail from 192.0.2.9 passes", "192.0.2.9 is out.one.test, and out.one.test is 192.0.2.9"):
                assert text in told
            for text in ("mail from 192.0.2.200, which is ours, gets fail", "192.0.2.200 has no name"):
                assert text in told
            assert "10.0.0.1" not in told

        async def session() -> None:
            async with Node(config_sources.load(cell.nodes[0].config, settings)).running() as state:
                async with asyncio.timeout(15):
                    while state.unready():
                        await asyncio.sleep(0.05)
                assert state.services is not None
                await state.services.directory.add_tenant("one", ["one.test"], ADMIN)
                await asyncio.to_thread(story)

        with structlog.testing.capture_logs():  # what the node says is not what the command prints
            run(session())
