"""The cell's certificates: who may talk to whom."""

import datetime
import ssl
import stat
from pathlib import Path

import pytest
import structlog
from cryptography import x509

from cli import layout
from nodes.config import sources as config_sources
from nodes.config.node import NodeConfig
from nodes.files import finish
from nodes.tls import contexts as tls


def two_cells(folder: Path) -> tuple[NodeConfig, NodeConfig]:
    """The first node of each of two unrelated clusters."""
    cells = [layout.create(folder / name, 1, 20000) for name in ("a", "b")]
    first, second = (config_sources.load(cell.nodes[0].config, {}) for cell in cells)
    return first, second


def handshake(server: ssl.SSLContext, client: ssl.SSLContext) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """(server's, client's) side after a handshake in memory. Raises ssl.SSLError where a side refuses the other."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = (
        server.wrap_bio(to_server, to_client, server_side=True),
        client.wrap_bio(to_client, to_server, server_hostname="localhost"),
    )
    for _ in range(5):
        for side in reversed(sides):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    for side in sides:
        # with TLS 1.3 a refused client certificate shows in the client's first read only
        try:
            side.read(1)
        except ssl.SSLWantReadError:
            continue
    return sides


def test_peers_of_one_cell_know_each_other_by_certificate(tmp_path: Path) -> None:
    cluster = layout.create(tmp_path / "cell", 3, 20000)
    first, second = (config_sources.load(node.config, {}) for node in cluster.nodes[:2])
    server, client = handshake(tls.raft_contexts(first)[0], tls.raft_contexts(second)[1])
    assert server.version() == "TLSv1.3"
    assert tls.peer_node_name(server, cluster.id) == "n2"
    assert tls.peer_node_name(client, cluster.id) == "n1"
    assert tls.peer_node_name(server, "another") is None
    assert tls.peer_admin_name(server, cluster.id) is None


def test_a_peer_with_a_certificate_of_another_ca_is_refused_and_that_is_logged_once(tmp_path: Path) -> None:
    ours, theirs = two_cells(tmp_path)
    server = tls.raft_contexts(ours)[0]
    client = tls.admin_client_context(ours.tls.ca, theirs.tls.certificate, theirs.tls.key)
    with structlog.testing.capture_logs() as lines:
        for _ in range(3):
            with pytest.raises(ssl.SSLError):
                handshake(server, client)
    assert [(line["event"], line["on"]) for line in lines] == [("TLS peer refused", "link between nodes")]
    assert lines[0]["reason"].startswith("its certificate is not of this cell's CA (")


def test_a_node_does_not_talk_to_a_server_of_another_ca(tmp_path: Path) -> None:
    ours, theirs = two_cells(tmp_path)
    with structlog.testing.capture_logs() as lines, pytest.raises(ssl.SSLError):
        handshake(tls.raft_contexts(theirs)[0], tls.raft_contexts(ours)[1])
    assert lines[0]["event"] == "TLS peer refused"


def test_a_peer_without_a_certificate_is_refused(tmp_path: Path) -> None:
    ours, _ = two_cells(tmp_path)
    stranger = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    stranger.load_verify_locations(ours.tls.ca)
    with pytest.raises(ssl.SSLError):
        handshake(tls.raft_contexts(ours)[0], stranger)


def test_a_peer_that_speaks_only_tls_1_2_is_refused(tmp_path: Path) -> None:
    ours, _ = two_cells(tmp_path)
    old = tls.raft_contexts(ours)[1]
    old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError):
        handshake(tls.raft_contexts(ours)[0], old)


def test_an_administrator_is_no_node(tmp_path: Path) -> None:
    cluster = layout.create(tmp_path / "cell", 1, 20000)
    node = config_sources.load(cluster.nodes[0].config, {})
    admin = cluster.folder / "admin"
    client = tls.admin_client_context(cluster.folder / "ca" / "ca.pem", admin / "admin.pem", admin / "admin.key")
    server, _ = handshake(tls.admin_context(node.tls), client)
    assert tls.peer_admin_name(server, cluster.id) == "operator"
    assert tls.peer_node_name(server, cluster.id) is None


def test_a_mail_client_can_check_the_name_of_the_node(tmp_path: Path) -> None:
    ours, _ = two_cells(tmp_path)
    client = ssl.create_default_context(cafile=str(ours.tls.ca))
    server, _ = handshake(tls.server_context(ours.tls), client)
    assert server.version() == "TLSv1.3"


def test_mail_clients_are_offered_modern_ciphers_only(tmp_path: Path) -> None:
    ours, _ = two_cells(tmp_path)
    names = [cipher["name"] for cipher in tls.server_context(ours.tls).get_ciphers()]
    assert names
    assert all(name.startswith(("TLS_", "ECDHE-")) and "CBC" not in name and "SHA1" not in name for name in names)


def test_a_node_certificate_says_where_it_is_valid_and_until_when(tmp_path: Path) -> None:
    ours, _ = two_cells(tmp_path)
    certificate = x509.load_pem_x509_certificate(ours.tls.certificate.read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost", "n1.localhost"]
    assert "127.0.0.1" in [str(address) for address in names.get_values_for_type(x509.IPAddress)]
    ca = x509.load_pem_x509_certificate(ours.tls.ca.read_bytes())
    lasts = [one.not_valid_after_utc - datetime.datetime.now(datetime.UTC) for one in (certificate, ca)]
    assert [one.days for one in lasts] == [tls.CERTIFICATE_DAYS - 1, tls.CA_DAYS - 1]


def test_private_keys_are_readable_by_their_owner_only(tmp_path: Path) -> None:
    layout.create(tmp_path / "cell", 3, 20000)
    keys = list((tmp_path / "cell").rglob("*.key"))
    assert len(keys) == 1 + 1 + 3 * 2
    assert {stat.S_IMODE(key.stat().st_mode) for key in keys} == {0o600}


def test_renewed_certificates_are_of_the_same_ca(tmp_path: Path) -> None:
    cluster = layout.create(tmp_path / "cell", 1, 20000)
    node = config_sources.load(cluster.nodes[0].config, {})
    before, server = node.tls.certificate.read_bytes(), tls.raft_contexts(node)[0]
    layout.renew(cluster)
    assert node.tls.certificate.read_bytes() != before
    side, _ = handshake(server, tls.raft_contexts(node)[1])
    assert tls.peer_node_name(side, cluster.id) == "n1"


class Killed(BaseException):
    """In place of SIGKILL."""


@pytest.mark.parametrize("step", range(1, 10))
def test_a_renewal_that_is_killed_leaves_certificates_with_their_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    cluster = layout.create(tmp_path / "cell", 1, 20000)
    left, replace = step, Path.replace

    def killed(path: Path, target: Path) -> Path:
        nonlocal left
        left -= 1
        if not left:
            raise Killed
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(Killed):
        layout.renew(cluster)
    monkeypatch.undo()
    node = config_sources.load(cluster.nodes[0].config, {}).tls
    admin = cluster.folder / "admin"
    for certificate, key in ((node.certificate, node.key), (admin / "admin.pem", admin / "admin.key")):
        finish(certificate, key)  # as the node and the command do first
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)
