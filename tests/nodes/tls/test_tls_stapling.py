"""Stapled responses: from OpenSSL's own responder to its own client, and every response that must not be shown."""

from __future__ import annotations

import asyncio
import datetime
import shutil
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import structlog
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID

from nodes.tls.front import load_pem, server_side
from nodes.tls.ocsp import BadResponse, judge
from nodes.tls.stapling import Stapler
from tests.peers import certificates
from tests.peers.certificates import Pair
from tests.peers.ocsp_responder import responder, stapled
from tests.peers.pebble import free_ports

ROOT = certificates.authority("Root")
NOW = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
HOUR = datetime.timedelta(hours=1)
needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")


LEAF = stapled("http://127.0.0.1:1/", issuer=ROOT)


def response(
    *,
    about: Pair = LEAF,
    signer: Pair = ROOT,
    status: ocsp.OCSPCertStatus = ocsp.OCSPCertStatus.GOOD,
    at: datetime.datetime = NOW - HOUR,
    until: datetime.datetime = NOW + HOUR,
) -> bytes:
    revoked = NOW - HOUR if status is ocsp.OCSPCertStatus.REVOKED else None
    built = ocsp.OCSPResponseBuilder().add_response(
        about.certificate, ROOT.certificate, hashes.SHA1(), status, at, until, revoked, None
    )
    built = built.responder_id(ocsp.OCSPResponderEncoding.HASH, signer.certificate)
    if signer is not ROOT:
        built = built.certificates([signer.certificate])
    return built.sign(signer.key, hashes.SHA256()).public_bytes(Encoding.DER)


def refused(der: bytes) -> str:
    with pytest.raises(BadResponse) as found:
        judge(der, LEAF.certificate, ROOT.certificate, NOW)
    return str(found.value)


def test_a_good_response_is_asked_for_again_at_half_its_life() -> None:
    found = judge(response(), LEAF.certificate, ROOT.certificate, NOW)
    assert (found.refresh_at(), found.expires) == (NOW, NOW + HOUR)


def test_a_response_of_whom_the_issuer_names_for_that_is_good() -> None:
    uses = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.OCSP_SIGNING])
    named = certificates.server("ocsp.test", issuer=ROOT, extensions=[uses])
    assert judge(response(signer=named), LEAF.certificate, ROOT.certificate, NOW)


def test_what_a_client_would_not_take_is_not_shown() -> None:
    other = certificates.server("other.test", issuer=ROOT)
    assert refused(b"nothing").startswith("the response can not be read")
    assert refused(response(until=NOW - HOUR / 2)) == "the response is stale"
    assert refused(response(at=NOW + HOUR, until=NOW + 2 * HOUR)) == "the response is of the future"
    assert refused(response(about=other)) == "the response is about another certificate"
    assert refused(response(signer=other)).startswith("the response is not signed by the issuer")
    assert refused(response(status=ocsp.OCSPCertStatus.REVOKED)).endswith("is revoked")
    busy = ocsp.OCSPResponseBuilder.build_unsuccessful(ocsp.OCSPResponseStatus.TRY_LATER)
    assert refused(busy.public_bytes(Encoding.DER)) == "the responder said try later"


class Clocked:
    """A stapler of one certificate whose authority and clock the test has in hand."""

    def __init__(self, pair: Pair = LEAF) -> None:
        self.now, self.asked, self.says = NOW, 0, response(about=pair)
        self.stapler = Stapler(structlog.get_logger(), ask=self._ask, now=lambda: self.now)
        self.context = server_side()
        self.stapler.prepare(self.context, (pair.certificate, ROOT.certificate))
        self.fingerprint = pair.certificate.fingerprint(hashes.SHA256())

    async def _ask(self, url: str, certificate: x509.Certificate, issuer: x509.Certificate) -> bytes:
        self.asked += 1
        return self.says

    async def look(self, after: datetime.timedelta) -> None:
        self.now = NOW + after
        await self.stapler.look()


def test_a_stale_response_is_never_stapled_and_a_failure_is_tried_again_later(
    run: Callable[[Awaitable[Any]], Any],
) -> None:
    async def go() -> None:
        one = Clocked()
        one.says = response(at=NOW, until=NOW + 4 * HOUR)
        await one.look(0 * HOUR)
        await one.look(1.9 * HOUR)
        assert one.asked == 1
        one.says = b"broken"
        await one.look(2 * HOUR)
        await one.look(2 * HOUR + datetime.timedelta(seconds=59))
        assert one.asked == 2
        assert one.stapler.answer(one.fingerprint) is not None  # the one before is still valid
        await one.look(2 * HOUR + datetime.timedelta(seconds=61))
        assert one.asked == 3
        one.now = NOW + 4 * HOUR
        assert one.stapler.answer(one.fingerprint) is None

    run(go())


def test_what_is_shown_no_more_is_not_asked_for(run: Callable[[Awaitable[Any]], Any]) -> None:
    async def go() -> None:
        one = Clocked()
        one.stapler.forget(one.context)
        await one.look(0 * HOUR)
        assert one.asked == 0

    run(go())


def test_a_certificate_that_must_be_stapled_and_can_not_be_is_warned_of() -> None:
    feature = x509.TLSFeature([x509.TLSFeatureType.status_request])
    pair = certificates.server("must.test", issuer=ROOT, extensions=[feature])
    with structlog.testing.capture_logs() as lines:
        Stapler(structlog.get_logger()).prepare(server_side(), (pair.certificate, ROOT.certificate))
    assert [(line["event"], line["reason"]) for line in lines] == [
        ("a certificate must be stapled and can not be", "no address of a responder")
    ]


@needs_openssl
def test_openssl_verifies_what_its_own_responder_said(tmp_path: Path, run: Callable[[Awaitable[Any]], Any]) -> None:
    port = free_ports(1)[0]
    pair = stapled(f"http://127.0.0.1:{port}/", must=True, issuer=ROOT)
    context = server_side()
    load_pem(context, (pair.pem + ROOT.pem).decode(), pair.key_pem)
    stapler = Stapler(structlog.get_logger())
    stapler.prepare(context, (pair.certificate, ROOT.certificate))
    (tmp_path / "ca.pem").write_bytes(ROOT.pem)

    async def go() -> tuple[str, str]:
        server = await asyncio.start_server(_greet, "127.0.0.1", 0, ssl=context)
        address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with server:
            before = await _asked(address, tmp_path)
            while stapler.answer(pair.certificate.fingerprint(hashes.SHA256())) is None:
                stapler._due.clear()
                await stapler.look()
                await asyncio.sleep(0.05)
            return before, await _asked(address, tmp_path)

    with responder(tmp_path, port, pair, ROOT):
        before, after = run(go())
    assert "OCSP response: no response sent" in before
    assert "OCSP Response Status: successful (0x0)" in after
    assert "Cert Status: good" in after
    assert "Verify return code: 0 (ok)" in after


async def _asked(address: str, folder: Path) -> str:
    command = ("openssl", "s_client", "-connect", address, "-status", "-CAfile", str(folder / "ca.pem"), "-ign_eof")
    pipe = asyncio.subprocess.PIPE
    client = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, stderr=pipe)
    out, _ = await asyncio.wait_for(client.communicate(), 30)
    return out.decode(errors="replace")


async def _greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"hello\r\n")
    writer.close()


def test_a_context_that_can_not_be_reached_staples_nothing_and_says_so_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nodes.tls.libssl.words", lambda object_, count: [])
    stapler = Stapler(structlog.get_logger())
    with structlog.testing.capture_logs() as lines:
        for _ in range(2):
            stapler.prepare(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), (LEAF.certificate, ROOT.certificate))
    assert len(lines) == 1
