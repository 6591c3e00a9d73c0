"""What a login can be bound to, on real TLS connections in memory."""

import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from nodes.config.node import TlsSection
from nodes.tls import contexts as tls
from nodes.tls import libssl
from nodes.tls.channel_binding import bindings_of


def connected(folder: Path, version: ssl.TLSVersion) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Both ends of a connection whose handshake is done: the client's, the server's."""
    tls.issue_node(tls.create_authority(folder, "test"), folder, "test", "n1", ["localhost"])
    section = TlsSection(ca=folder / "ca.pem", certificate=folder / "node.pem", key=folder / "node.key")
    context = ssl.create_default_context(cafile=folder / "ca.pem")
    context.maximum_version = version
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = tls.server_context(section).wrap_bio(to_server, to_client, server_side=True)
    client = context.wrap_bio(to_client, to_server, server_hostname="localhost")
    done = 0
    while done < 2:
        done = 0
        for end in (client, server):
            try:
                end.do_handshake()
                done += 1
            except ssl.SSLWantReadError:
                pass
    return client, server


@pytest.mark.parametrize(
    ("version", "name", "length"),
    [(ssl.TLSVersion.TLSv1_3, "tls-exporter", 32), (ssl.TLSVersion.TLSv1_2, "tls-unique", 12)],
)
def test_both_ends_have_one_binding_and_no_other_connection_has_it(
    tmp_path: Path, version: ssl.TLSVersion, name: str, length: int
) -> None:
    client, server = connected(tmp_path, version)
    assert bindings_of(server).keys() == {name, "tls-server-end-point"}
    assert bindings_of(client)[name] == bindings_of(server)[name]
    assert len(bindings_of(server)[name]) == length
    assert bindings_of(connected(tmp_path, version)[1])[name] != bindings_of(server)[name]


def test_the_end_point_is_the_hash_of_the_certificate_that_was_shown(tmp_path: Path) -> None:
    _, server = connected(tmp_path, ssl.TLSVersion.TLSv1_3)
    certificate = x509.load_pem_x509_certificate((tmp_path / "node.pem").read_bytes())
    assert bindings_of(server)["tls-server-end-point"] == certificate.fingerprint(hashes.SHA256())


def test_in_clear_there_is_nothing_to_bind_to() -> None:
    assert bindings_of(None) == {}


def test_where_an_object_is_laid_out_otherwise_nothing_is_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, server = connected(tmp_path, ssl.TLSVersion.TLSv1_3)
    right = libssl.words

    def shifted(object_: object, count: int) -> list[int]:
        return [*right(object_, count)[1:], 0]

    monkeypatch.setattr(libssl, "words", shifted)
    assert bindings_of(server) == {}
