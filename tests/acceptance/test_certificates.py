"""Certificates over three nodes: given, ordered from Pebble, renewed, and ordered although the leader is killed."""

from __future__ import annotations

import base64
import hashlib
import imaplib
import json
import os
import signal
import smtplib
import socket
import ssl
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from chaos.cluster import Cluster, ClusterError
from nodes.tls.acme_client import Acme, dns_record, new_key
from nodes.tls.chain import names_of
from tests.acceptance.site import need
from tests.peers import certificates
from tests.peers.acme_front import KEY, KEY_ID, front
from tests.peers.pebble import Pebble, free_ports, pebble

HOOK = """#!/bin/sh
# puts a record into the DNS of the tests, once it may
case "$2" in *no-zone*) echo "no such zone" >&2; exit 3;; esac
while [ ! -e "{gate}" ]; do sleep 0.1; done
[ "$1" = add ] && path=set-txt || path=clear-txt
exec curl -sf --data "{{\\"host\\": \\"$2.\\", \\"value\\": \\"$3\\"}}" "{dns}/$path"
"""


class Setting(NamedTuple):
    cluster: Cluster
    authority: Pebble
    gate: Path


@pytest.fixture(scope="module")
def setting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setting]:
    folder = tmp_path_factory.mktemp("acme")
    gate, hook = folder / "gate", folder / "hook"
    ports = free_ports(3)
    with pebble(folder, ports[1]) as authority:
        hook.write_text(HOOK.format(gate=gate, dns=authority.dns))
        hook.chmod(0o755)
        environment = {"MAILRAFT_ACME_CA": str(authority.ca), "MAILRAFT_ACME_DNS_HOOK": str(hook)}
        cluster = Cluster(folder / "cluster", environment=environment)
        cluster.make()
        for name, port in zip(cluster.names(), ports, strict=True):
            cluster.configure(name, "listen", {"acme_http": f"127.0.0.1:{port}"})
        with cluster:
            cluster.command("tenant", "add", "example", "--domain", "example.test")
            cluster.command("certificate", "account", authority.directory, "--contact", "a@example.test", "--agree")
            yield Setting(cluster, authority, gate)


def shown(cluster: Cluster, node: str, name: str) -> x509.Certificate:
    """The certificate that a client sees at a node who asks for this name."""
    host, _, port = cluster.status().node(node).endpoints["imaps"].rpartition(":")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection((host, int(port)), 10) as plain:
        with context.wrap_socket(plain, server_hostname=name) as secure:
            return x509.load_der_x509_certificate(secure.getpeercert(binary_form=True) or b"")


def orders(cluster: Cluster) -> dict[str, dict[str, Any]]:
    """What is kept, by its first name."""
    return {one["names"][0]: one for one in json.loads(cluster.command("certificate", "orders", "--json"))["kept"]}


def placed(cluster: Cluster) -> int:
    """How many orders the log knows."""
    return cluster.command("log", "tail", "--json", "-n", "500").count('"AcmeOrderPlaced"')


def until(true: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline_s
        time.sleep(0.1)


def test_a_given_certificate_is_shown_by_every_node(setting: Setting, tmp_path: Path) -> None:
    cluster, root = setting.cluster, certificates.authority()
    pair = certificates.server("given.example.test", issuer=root)
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    chain.write_bytes(pair.pem + root.pem)
    key.write_bytes(pair.key_pem)
    made = json.loads(cluster.command("certificate", "add", str(chain), str(key), "--json"))
    assert (made["tenant"], made["state"], made["names"]) == ("example", "expiring", ["given.example.test"])
    cluster.wait_settled()
    assert all(shown(cluster, name, "given.example.test") == pair.certificate for name in cluster.names())
    assert "given.example.test" in cluster.command("certificate", "list")
    assert pair.pem.decode().strip() in cluster.command("certificate", "show", made["fingerprint"][:16])
    key.write_bytes(root.key_pem)
    with pytest.raises(ClusterError, match="the key is not the one of the certificate"):
        cluster.command("certificate", "add", str(chain), str(key))
    cluster.command("certificate", "remove", "given.example.test")
    cluster.wait_settled()
    assert all(shown(cluster, name, "given.example.test") != pair.certificate for name in cluster.names())


def test_certificates_are_rotated_under_an_idling_reader_and_a_sender_in_the_middle_of_a_message(
    setting: Setting, tmp_path: Path
) -> None:
    """The one in the log, and those of the nodes: who is connected notices nothing, who comes sees the new one."""
    cluster, root, amy = setting.cluster, certificates.authority(), "amy@rotated.test"
    password = cluster.add_accounts("rotated", (amy,))
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    pairs = [certificates.server("mx.rotated.test", issuer=root) for _ in range(2)]

    def give(pair: certificates.Pair) -> None:
        chain.write_bytes(pair.pem + root.pem)
        key.write_bytes(pair.key_pem)
        cluster.command("certificate", "add", str(chain), str(key))
        cluster.wait_settled()

    give(pairs[0])
    trust = ssl.create_default_context(cadata=root.pem.decode())
    at = cluster.status().node("n1").endpoints
    reader = imaplib.IMAP4_SSL(
        "127.0.0.1", int(at["imaps"].rpartition(":")[2]), ssl_context=ssl._create_unverified_context()
    )
    reader.login(amy, password)
    reader.select()
    reader.send(b"i IDLE\r\n")
    assert reader.readline().startswith(b"+")
    sender = smtplib.SMTP("127.0.0.1", int(at["smtp"].rpartition(":")[2]), timeout=30)
    sender._host = "mx.rotated.test"  # type: ignore[attr-defined]  # the name to ask for, and to find in the certificate
    sender.starttls(context=trust)
    sender.ehlo()
    sender.mail("x@remote.test")
    sender.rcpt(amy)
    assert sender.docmd("DATA")[0] == 354
    sender.send(b"Subject: begun before\r\n\r\n")
    give(pairs[1])
    own = {name: shown(cluster, name, "nobody.test").serial_number for name in cluster.names()}
    cluster.command("cluster", "rotate-certificates", str(cluster.folder))
    until(lambda: all(shown(cluster, name, "nobody.test").serial_number != own[name] for name in cluster.names()))
    assert all(shown(cluster, name, "mx.rotated.test") == pairs[1].certificate for name in cluster.names())
    sender.send(b"ended after\r\n.\r\n")
    assert sender.getreply()[0] == 250
    assert reader.readline() == b"* 1 EXISTS\r\n"
    reader.send(b"DONE\r\n")
    sender.quit()
    reader.shutdown()


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_a_session_of_one_node_goes_on_at_another(setting: Setting, tmp_path: Path, version: str) -> None:
    need("openssl")
    kept = str(tmp_path / "session.pem")

    def asked(node: str, *more: str) -> str:
        address = setting.cluster.status().node(node).endpoints["imaps"]
        command = ("openssl", "s_client", "-connect", address, "-servername", "any.test", version, *more)
        done = subprocess.run((*command, "-ign_eof"), input=b"a LOGOUT\r\n", capture_output=True, timeout=30)
        return done.stdout.decode(errors="replace")

    assert "New, TLSv1" in asked("n1", "-sess_out", kept)
    assert "Reused, TLSv1" in asked("n2", "-sess_in", kept)


def test_what_expires_is_found(setting: Setting) -> None:
    found = json.loads(setting.cluster.command("certificate", "check", "--node", "n2", "--json"))
    assert {one["area"] for one in found["findings"]} >= {"authority", "node"}
    assert found["worst"] in ("ok", "warning")


def test_a_certificate_is_ordered_and_renewed_whichever_node_is_asked_to_prove_it(setting: Setting) -> None:
    cluster = setting.cluster
    names = ("mail.example.test", "imap.example.test")
    for leader in cluster.names()[:2]:  # the authority asks n2 in any case
        cluster.command("cluster", "transfer-leadership", str(cluster.folder), leader)
        command = ("order", *names) if leader == "n1" else ("renew", names[0])
        said = json.loads(cluster.command("certificate", *command, "--json", timeout_s=120))
        assert (said["state"], said["problem"], said["tenant"]) == ("got", "", "example")
    cluster.wait_settled()
    found = [shown(cluster, name, "imap.example.test") for name in cluster.names()]
    assert set(names_of(found[0])) == set(names)
    assert {one.serial_number for one in found} == {found[0].serial_number}
    listed = json.loads(cluster.command("certificate", "list", "--json"))["certificates"]
    assert [one["source"] for one in listed if one["names"][0] in names] == ["acme"]


def test_an_order_goes_on_with_the_next_leader_when_its_own_is_killed(setting: Setting) -> None:
    cluster, name = setting.cluster, "*.wild.example.test"
    before = placed(cluster)
    with pytest.raises(ClusterError, match="no certificate yet"):
        cluster.command("certificate", "order", name, "--dns", "--wait", "0")
    until(lambda: orders(cluster)[name]["state"] == "ordering")
    status = cluster.status()
    assert status.leader is not None
    os.kill(status.node(status.leader).pid, signal.SIGKILL)
    setting.gate.touch()
    until(lambda: cluster.status().leader is not None)
    until(lambda: orders(cluster)[name]["state"] == "got")
    cluster.wait_settled()
    assert placed(cluster) == before + 1
    assert names_of(shown(cluster, "n3", "a.wild.example.test")) == (name,)


def test_what_the_authority_refuses_is_told_and_tried_again_later(setting: Setting) -> None:
    cluster = setting.cluster
    answer = json.dumps({"host": "away.example.test", "addresses": ["127.0.0.9"]}).encode()
    urllib.request.urlopen(f"{setting.authority.dns}/add-a", data=answer, timeout=5).close()
    with pytest.raises(ClusterError, match=r"no certificate: away\.example\.test: .*refused"):
        cluster.command("certificate", "order", "away.example.test", timeout_s=120)
    with pytest.raises(ClusterError, match=r"acme\.dns_hook ended with status 3: no such zone"):
        cluster.command("certificate", "order", "no-zone.example.test", "--dns", timeout_s=120)
    for name in ("away.example.test", "no-zone.example.test"):
        failed = orders(cluster)[name]
        assert (failed["state"], failed["failures"]) == ("failed", 1)
        assert failed["due"] is not None
        cluster.command("certificate", "release", name)
        assert name not in orders(cluster)


def test_what_the_authority_wants_renewed_early_is_renewed_by_the_next_leader_when_its_own_is_killed(
    setting: Setting,
) -> None:
    """RFC 9773: nobody asks for it but the authority."""
    cluster, name = setting.cluster, "soon.example.test"
    setting.gate.touch()
    with front(setting.authority) as authority:
        cluster.command("certificate", "account", authority.directory, "--agree")
        cluster.command("certificate", "order", name, "--dns", timeout_s=120)
        got = orders(cluster)[name]
        until(lambda: bool(authority.asked))
        authority.due = True
        status = cluster.status()
        assert status.leader is not None
        os.kill(status.node(status.leader).pid, signal.SIGKILL)
        until(lambda: cluster.status().leader is not None)
        until(lambda: (now := orders(cluster)[name])["state"] == "got" and now["fingerprint"] != got["fingerprint"])
        authority.due = False
        cluster.wait_settled()
        served = {shown(cluster, node, name).fingerprint(hashes.SHA256()).hex() for node in cluster.names()}
        assert served == {orders(cluster)[name]["fingerprint"]}
    cluster.command("certificate", "account", setting.authority.directory, "--agree")


def test_an_account_is_bound_to_one_that_the_operator_has_with_the_authority(setting: Setting, tmp_path: Path) -> None:
    cluster, right, wrong = setting.cluster, tmp_path / "right", tmp_path / "wrong"  # RFC 8555 7.3.4
    right.write_text(base64.urlsafe_b64encode(KEY).decode() + "\n")
    wrong.write_text(base64.urlsafe_b64encode(b"w" * 32).decode())
    with front(setting.authority, binds=True) as authority:
        asked = ("certificate", "account", authority.directory, "--agree")
        with pytest.raises(ClusterError, match="externalAccountRequired"):
            cluster.command(*asked)
        with pytest.raises(ClusterError, match="unauthorized"):
            cluster.command(*asked, "--key-id", KEY_ID, "--hmac-key-file", str(wrong))
        assert "account/1" in cluster.command(*asked, "--key-id", KEY_ID, "--hmac-key-file", str(right), "--json")
        assert len(authority.bound) == 1
    cluster.command("certificate", "account", setting.authority.directory, "--agree")


def test_an_authority_that_refuses_nonces_is_asked_again(tmp_path: Path) -> None:
    with pebble(tmp_path, free_ports(1)[0], refused_nonces=50) as authority:
        key, urls = new_key(), set()
        for _ in range(5):
            urls.add(Acme(authority.directory, key, "", str(authority.ca)).register((), None))
        assert len(urls) == 1  # one account, however often it is asked for


def test_the_record_of_a_name_is_the_one_of_rfc_8555() -> None:
    name, value = dns_record("*.example.test", "token.thumbprint")
    assert name == "_acme-challenge.example.test"
    assert base64.urlsafe_b64decode(value + "=") == hashlib.sha256(b"token.thumbprint").digest()
