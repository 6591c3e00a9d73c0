"""TLS as mail clients meet it, on a real IMAP listener, asked by OpenSSL's own client and by Python's."""

from __future__ import annotations

import datetime
import re
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import structlog

from actors.certificates import CERTIFICATES, shown_for
from actors.errors import NameTaken, NotAllowed
from actors.region import REGION, IssueGrant, RevokeGrant
from nodes.doctor.finding import Finding
from nodes.tls import libssl
from nodes.tls.certificates import CertificateAdmin
from nodes.tls.chain import BadCertificate
from nodes.tls.front import GROUPS, ServedConnection, server_name, server_side, set_groups
from tests.nodes.imap.client import RawClient
from tests.nodes.imap.node import ADMIN, PASSWORD, Node
from tests.peers import certificates
from tests.peers.certificates import Pair
from tests.peers.ocsp_responder import responder, stapled
from tests.peers.pebble import free_ports

ROOT = certificates.authority("Root")
needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    made = Node(tmp_path_factory.mktemp("node"), {}, kind="imaps")
    yield made
    made.stop()


def add(node: Node, pair: Pair, *chain: Pair) -> None:
    text = pair.pem + b"".join(one.pem for one in chain or (ROOT,))
    node.call(CertificateAdmin(node.services).add(text, pair.key_pem, ADMIN))


def remove(node: Node, name: str) -> None:
    node.call(CertificateAdmin(node.services).remove(name, ADMIN))


def trusting(node: Node) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(node.folder / "ca.pem"))
    context.load_verify_locations(cadata=ROOT.pem.decode())
    return context


def shown(node: Node, name: str | None) -> bytes:
    """The certificate (DER) that a client sees who asks for this name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection(("127.0.0.1", node.port), 10) as plain:
        with context.wrap_socket(plain, server_hostname=name) as secure:
            return secure.getpeercert(binary_form=True) or b""


def openssl(node: Node, *arguments: str) -> str:
    """What `openssl s_client` says of a connection that it ends by itself."""
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{node.port}", *arguments]
    done = subprocess.run(command, input=b"a LOGOUT\r\n", capture_output=True, timeout=30, check=False)
    return done.stdout.decode(errors="replace") + done.stderr.decode(errors="replace")


def test_each_name_has_its_certificate_and_others_have_the_files(node: Node) -> None:
    own = certificates.server("mail.example.test", issuer=ROOT)
    wild = certificates.server("*.wild.example.test", issuer=ROOT)
    default = shown(node, None)
    add(node, own)
    add(node, wild)
    assert shown(node, "mail.example.test") == own.der
    assert shown(node, "MAIL.example.test") == own.der
    assert shown(node, "a.wild.example.test") == wild.der
    assert shown(node, "a.b.wild.example.test") == shown(node, "other.test") == shown(node, None) == default


def test_a_certificate_is_renewed_under_a_client_that_idles(node: Node) -> None:
    before = certificates.server("idle.example.test", issuer=ROOT)
    after = certificates.server("idle.example.test", issuer=ROOT)
    add(node, before)
    user = node.add_user()
    client = RawClient(node.port, trusting(node))
    client.command(f'LOGIN {user.login} "{PASSWORD}"')
    client.command("SELECT INBOX")
    client.send(b"i IDLE\r\n")
    assert client.response().startswith(b"+")
    assert shown(node, "idle.example.test") == before.der
    add(node, after)
    assert shown(node, "idle.example.test") == after.der
    node.deliver(user, b"Subject: still here\r\n\r\n")
    assert client.response() == b"* 1 EXISTS"
    client.send(b"DONE\r\n")
    assert client.until(b"i")[-1].startswith(b"OK")
    client.close()


def test_a_renewed_certificate_takes_the_place_of_the_one_before(node: Node) -> None:
    before = certificates.server("again.example.test", issuer=ROOT)
    wider = certificates.server("again.example.test", "more.example.test", issuer=ROOT)
    add(node, before)
    add(node, wider)
    names = [one.names for one in CertificateAdmin(node.services).all()]
    assert ("again.example.test",) not in names
    remove(node, "again.example.test")
    with node.log.snapshot() as snapshot:
        assert shown_for(snapshot.view(CERTIFICATES), "more.example.test") is None


def test_a_tenants_certificate_names_hosts_of_its_domains_only(node: Node) -> None:
    tenant = node.call(node.directory.add_tenant("other", ["other.test"], ADMIN))
    pair = certificates.server("mail.other.test", "mail.example.test", issuer=ROOT)
    adding = CertificateAdmin(node.services).add(pair.pem + ROOT.pem, pair.key_pem, ADMIN, tenant=tenant)
    with pytest.raises(NotAllowed, match=r"mail\.example\.test is in no domain of this tenant"):
        node.call(adding)


def test_a_name_of_one_tenant_is_not_taken_over_by_a_certificate_of_several(node: Node) -> None:
    add(node, certificates.server("own.example.test", issuer=ROOT))
    with pytest.raises(NameTaken):
        add(node, certificates.server("own.example.test", "elsewhere.test", issuer=ROOT))


def test_the_key_is_sealed_on_the_log(node: Node) -> None:
    pair = certificates.server("sealed.example.test", issuer=ROOT)
    add(node, pair)
    stored = CertificateAdmin(node.services).require("sealed.example.test")
    assert pair.key_pem.splitlines()[1] not in stored.sealed
    assert b"PRIVATE" not in stored.sealed


def test_the_name_that_a_client_asked_for_is_known_of_its_connection(node: Node) -> None:
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = node.tls.context.wrap_bio(to_server, to_client, server_side=True)
    client = trusting(node).wrap_bio(to_client, to_server, server_hostname="localhost")
    for end in (client, server, client, server):
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            continue
    assert isinstance(server, ServedConnection)
    assert server_name(server) == "localhost"
    assert server_name(None) is None


@needs_openssl
@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_both_versions_are_spoken_without_compression_or_renegotiation(node: Node, version: str) -> None:
    said = openssl(node, version)
    assert re.search(r"Cipher is (TLS_AES_256_GCM_SHA384|ECDHE-ECDSA-AES256-GCM-SHA384)", said)
    assert "Compression: NONE" in said
    assert "Server Temp Key: X25519" in said


@needs_openssl
@pytest.mark.parametrize(
    "arguments",
    [
        ("-tls1_1", "-cipher", "ALL:@SECLEVEL=0"),
        ("-tls1_2", "-cipher", "AES128-SHA:@SECLEVEL=0"),
        ("-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA256"),
        ("-tls1_2", "-cipher", "ECDHE-RSA-AES256-SHA"),
        ("-groups", "secp256k1"),
    ],
)
def test_weak_parameters_are_refused(node: Node, arguments: tuple[str, ...]) -> None:
    said = openssl(node, *arguments)
    assert "Cipher is (NONE)" in said


def test_hybrid_groups_come_first_where_openssl_has_them() -> None:
    groups = set_groups(server_side())
    assert groups.endswith("X25519:P-256:P-384:P-521")
    if ssl.OPENSSL_VERSION_INFO >= (3, 5):
        assert groups.startswith("X25519MLKEM768:")


@pytest.mark.parametrize(
    ("has", "chosen"),
    [
        ({*GROUPS, "ffdhe2048"}, "X25519MLKEM768:SecP256r1MLKEM768:X25519:P-256:P-384:P-521"),
        ({"X25519MLKEM768", "X25519", "P-256", "P-384", "P-521"}, "X25519MLKEM768:X25519:P-256:P-384:P-521"),
        ({"X25519", "P-256", "P-384", "P-521"}, "X25519:P-256:P-384:P-521"),
        ({"P-256", "P-384", "P-521"}, "P-256:P-384:P-521"),  # as where only what FIPS allows is there
        ({"ffdhe2048"}, ""),
    ],
)
def test_the_groups_are_those_that_openssl_has_in_the_order_of_preference(
    monkeypatch: pytest.MonkeyPatch, has: set[str], chosen: str
) -> None:
    """An OpenSSL of other capabilities, which like the real one takes a list of known groups or nothing of it."""
    in_force = ""

    def control(_handle: int, _command: int, _number: int, groups: bytes) -> int:
        nonlocal in_force
        if not set(groups.decode().split(":")) <= has:
            return 0
        in_force = groups.decode()
        return 1

    openssl = SimpleNamespace(SSL_CTX_ctrl=control, ERR_clear_error=lambda: None)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    monkeypatch.setattr(libssl, "context_handle", lambda _: 1)
    monkeypatch.setattr(libssl, "library", lambda: openssl)
    assert set_groups(context) == in_force == chosen


def test_a_context_that_is_laid_out_otherwise_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    right = libssl.words

    def shifted(object_: object, count: int) -> list[int]:
        return [*right(object_, count)[1:], 0]

    monkeypatch.setattr(libssl, "words", shifted)
    assert set_groups(server_side()) == ""


def test_an_address_that_libssl_contradicts_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    context = server_side()
    assert libssl.context_handle(context) is not None
    monkeypatch.setattr(libssl.library(), "SSL_CTX_get_options", lambda handle: 0)
    assert libssl.context_handle(context) is None


def test_files_that_change_are_all_taken_or_none(tmp_path: Path) -> None:
    node = Node(tmp_path, {}, kind="imaps")
    try:
        default = shown(node, None)
        pair = certificates.server("localhost", issuer=ROOT)
        node.files.node_pair.certificate.write_bytes(pair.pem + ROOT.pem)
        with pytest.raises(BadCertificate, match=r"tls\.certificate = .*: the key is not the one of the certificate"):
            node.call(_reload(node))
        assert shown(node, None) == default
        node.files.node_pair.key.write_bytes(pair.key_pem)
        node.call(_reload(node))
        assert shown(node, None) == pair.der
    finally:
        node.stop()


@needs_openssl
def test_a_certificate_of_the_log_is_stapled(node: Node, tmp_path: Path) -> None:
    port = free_ports(1)[0]
    pair = stapled(f"http://127.0.0.1:{port}/", "stapled.example.test", issuer=ROOT)
    (tmp_path / "ca.pem").write_bytes(ROOT.pem)
    asked = ("-servername", "stapled.example.test", "-status", "-CAfile", str(tmp_path / "ca.pem"))
    with responder(tmp_path, port, pair, ROOT):
        add(node, pair)
        said, deadline_s = "", time.monotonic() + 30
        while "OCSP Response Status: successful" not in said:
            assert time.monotonic() < deadline_s
            said = openssl(node, *asked)
            time.sleep(0.1)
    assert "Cert Status: good" in said
    assert "Verify return code: 0 (ok)" in said
    assert Finding("stapling", "ok", "") in [one._replace(text="") for one in node.tls.findings(now())]


def test_it_is_said_once_a_threshold_that_a_certificate_expires(node: Node) -> None:
    add(node, certificates.server("soon.example.test", issuer=ROOT, days=60))
    end = node.call(_end_of(node, "soon.example.test"))

    def said(days: float) -> list[tuple[str, str]]:
        with structlog.testing.capture_logs() as lines:
            node.tls.look(end - datetime.timedelta(days=days))
        return [(one["log_level"], one["event"]) for one in lines if "soon.example.test" in one["names"]]

    assert [said(days) for days in (40, 30, 29, 14, 7, 2, 1, 0.5)] == [
        *([], [("warning", "a certificate expires soon")], [], [("warning", "a certificate expires soon")]),
        *([("warning", "a certificate expires soon")], [], [("error", "a certificate expires soon")], []),
    ]
    assert said(0) == [("error", "a certificate has expired")]
    findings = {one.status for one in node.tls.findings(end) if "soon.example.test" in one.text}
    assert findings == {"error"}


def test_the_metric_tells_when_the_first_of_a_kind_expires(node: Node) -> None:
    add(node, certificates.server("first.example.test", issuer=ROOT, days=3))
    node.tls.look(now())
    end = node.call(_end_of(node, "first.example.test"))
    assert expiry_of(node, "given") == end.timestamp()
    assert expiry_of(node, "node") > end.timestamp()


def expiry_of(node: Node, kind: str) -> float:
    """The metric, of a kind of certificates."""
    text = node.metrics.exposition().decode()
    found = re.search(rf'mailraft_certificate_expiry_timestamp_seconds{{[^}}]*certificate="{kind}"[^}}]*}} (\S+)', text)
    assert found is not None
    return float(found[1])


def test_another_authority_that_is_trusted_and_grants_of_followers_are_said_and_measured(node: Node) -> None:
    other, end = certificates.authority("Before"), now().replace(microsecond=0) + datetime.timedelta(days=9)
    for name, tenant in (("near", b"t" * 16), ("ended", b"u" * 16), ("revoked", b"v" * 16)):
        until = now() - datetime.timedelta(days=1) if name == "ended" else end
        grant = IssueGrant(name, tenant, b"", b"f" * 32, int(until.timestamp() * 1000), b"sealed")
        node.call(node.services.runtime.ask(REGION, grant, ADMIN))
    node.call(node.services.runtime.ask(REGION, RevokeGrant("revoked"), ADMIN))
    ca = node.folder / "ca.pem"
    before = ca.read_bytes()
    try:
        ca.write_bytes(before + other.pem)
        found = [one for one in node.tls.findings(now()) if one.area in ("authority", "follower")]
        node.tls.look(now())
    finally:
        ca.write_bytes(before)
    assert [(one.area, one.status) for one in found] == [
        ("authority", "ok"),
        ("authority", "note"),
        ("follower", "warning"),
    ]
    assert "another authority is trusted beside the one in force" in found[1].text
    assert found[1].advice.startswith("mailraft cluster rotate-ca DIR --status")
    assert found[2].text == f"near: valid until {end.date().isoformat()}"
    assert "mailraft region grant" in found[2].advice
    assert expiry_of(node, "follower") == end.timestamp()
    assert expiry_of(node, "other_authority") == other.certificate.not_valid_after_utc.timestamp()
    node.tls.look(now())
    assert expiry_of(node, "other_authority") == 0


def now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


async def _end_of(node: Node, name: str) -> datetime.datetime:
    ms = CertificateAdmin(node.services).require(name).not_after_ms
    return datetime.datetime.fromtimestamp(ms / 1000, datetime.UTC)


async def _reload(node: Node) -> None:
    node.files.reload()
