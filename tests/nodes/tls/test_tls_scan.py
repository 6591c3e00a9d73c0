"""What sslyze and testssl.sh find at the ports of a node: nothing. One port of each kind; `make tls` scans them all."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chaos.cluster import free_base_port
from cli import layout
from cli.client import AdminClient
from cli.supervisor import environment, program
from nodes.config.node import split_address

sslyze: Any = pytest.importorskip("sslyze", reason="sslyze is not installed: make test")
EVERY = "TESTSSL" in os.environ
MAIL = ("imaps", "submission", "pop3s", "submissions", "imap", "smtp", "pop3")
OURS = ("admin", "region", "raft")  # TLS 1.3 only; the last two want a certificate of the cell
PORTS = (*MAIL, *OURS) if EVERY else ("submission", "admin")
STARTTLS = {"imap": "IMAP", "smtp": "SMTP", "submission": "SMTP", "pop3": "POP3"}
SUITES = {"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"}
GROUPS = {"X25519", "secp256r1", "secp384r1", "secp521r1"}


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[layout.Node]:
    """One that runs."""
    cluster = layout.create(tmp_path_factory.mktemp("scanned") / "cell", 1, free_base_port(1))
    [one] = cluster.nodes
    run = program("node", "run", "--config", str(one.config), "--set", "limits.connections_per_address=1000")
    process = subprocess.Popen(run, env=environment(), stderr=subprocess.DEVNULL)
    try:
        deadline_s, client = time.monotonic() + 60, AdminClient(cluster)
        while not _is_ready(client, one):
            assert time.monotonic() < deadline_s
            time.sleep(0.1)
        yield one
    finally:
        process.terminate()
        process.wait(20)


def _is_ready(client: AdminClient, node: layout.Node) -> bool:
    try:
        return bool(client.status(node)["ready"])
    except Exception:
        return False


def asked(node: layout.Node, kind: str) -> Any:
    """What sslyze is asked to scan; to our own ports it comes as a node of the cell does."""
    host, port = split_address(node.addresses[kind])
    ours = sslyze.ClientAuthenticationCredentials(node.folder / "node.pem", node.folder / "node.key")
    started = getattr(sslyze.ProtocolWithOpportunisticTlsEnum, STARTTLS[kind]) if kind in STARTTLS else None
    return sslyze.ServerScanRequest(
        server_location=sslyze.ServerNetworkLocation("localhost", port, ip_address=host),
        network_configuration=sslyze.ServerNetworkConfiguration(
            "localhost",
            tls_opportunistic_encryption=started,
            tls_client_auth_credentials=ours if kind in OURS else None,
            network_timeout=2,
        ),
    )


@pytest.fixture(scope="module")
def scanned(node: layout.Node) -> dict[str, Any]:
    """The results of each port."""
    scanner = sslyze.Scanner(per_server_concurrent_connections_limit=2, concurrent_server_scans_limit=2)
    scanner.queue_scans([asked(node, kind) for kind in PORTS])
    kinds = {split_address(node.addresses[kind])[1]: kind for kind in PORTS}
    return {kinds[one.server_location.port]: one.scan_result for one in scanner.get_results()}


def test_every_port_could_be_scanned(scanned: dict[str, Any]) -> None:
    assert set(scanned) == set(PORTS)
    assert all(result is not None for result in scanned.values())


@pytest.mark.parametrize("kind", PORTS)
def test_only_new_versions_and_strong_suites_are_spoken(scanned: dict[str, Any], kind: str) -> None:
    found = scanned[kind]
    for version in ("ssl_2_0", "ssl_3_0", "tls_1_0", "tls_1_1"):
        assert getattr(found, f"{version}_cipher_suites").result.accepted_cipher_suites == []
    old = [one.cipher_suite.name for one in found.tls_1_2_cipher_suites.result.accepted_cipher_suites]
    new = [one.cipher_suite.name for one in found.tls_1_3_cipher_suites.result.accepted_cipher_suites]
    assert bool(old) == (kind in MAIL)
    assert all(name.startswith("TLS_ECDHE_") and ("_GCM_" in name or "CHACHA20" in name) for name in old)
    assert set(new) == SUITES
    if kind in MAIL:  # sslyze asks for curves in TLS 1.2
        assert {one.name for one in found.elliptic_curves.result.supported_curves} == GROUPS


@pytest.mark.parametrize("kind", PORTS)
def test_no_known_weakness_is_found(scanned: dict[str, Any], kind: str) -> None:
    found = scanned[kind]
    assert not found.tls_compression.result.supports_compression
    assert not found.heartbleed.result.is_vulnerable_to_heartbleed
    assert not found.openssl_ccs_injection.result.is_vulnerable_to_ccs_injection
    assert found.robot.result.robot_result.name.startswith("NOT_VULNERABLE")
    early = found.tls_1_3_early_data.result  # sslyze can not ask where a certificate is wanted
    assert not early.supports_early_data if early is not None else kind in ("region", "raft")
    if kind in MAIL:  # of TLS 1.2
        assert not found.session_renegotiation.result.is_vulnerable_to_client_renegotiation_dos
        assert found.session_renegotiation.result.supports_secure_renegotiation
        assert found.tls_extended_master_secret.result.supports_ems_extension
        assert found.tls_fallback_scsv.result.supports_fallback_scsv


@pytest.mark.parametrize("kind", OURS)
def test_what_is_between_nodes_wants_a_certificate_of_the_cell(node: layout.Node, kind: str) -> None:
    request = asked(node, kind)
    stranger = sslyze.ServerNetworkConfiguration("localhost", network_timeout=1)
    found = sslyze.server_connectivity.check_connectivity_to_server(request.server_location, stranger)
    wanted = {"admin": "OPTIONAL", "region": "REQUIRED", "raft": "REQUIRED"}[kind]
    assert (found.highest_tls_version_supported.name, found.client_auth_requirement.name) == ("TLS_1_3", wanted)


@pytest.mark.skipif(not EVERY, reason="a minute for each port: make tls")
@pytest.mark.parametrize("kind", ["imaps", "submission", "admin"])
def test_testssl_finds_nothing(node: layout.Node, kind: str, tmp_path: Path) -> None:
    testssl = shutil.which("testssl") or pytest.skip("testssl is not installed: scripts/debian-packages")
    found = tmp_path / "found.json"
    start = ("--starttls", "smtp") if kind == "submission" else ()
    checks = ("--protocols", "--server-preference", "--fs", "--vulnerable")
    command = (testssl, "--quiet", "--color", "0", "--warnings", "off", "--ip", "127.0.0.1", "--jsonfile", str(found))
    target = f"localhost:{split_address(node.addresses[kind])[1]}"
    subprocess.run((*command, *start, *checks, target), timeout=600, capture_output=True)
    findings = json.loads(found.read_text())
    assert len(findings) > 20
    assert [one for one in findings if one["severity"] not in ("OK", "INFO", "DEBUG")] == []
