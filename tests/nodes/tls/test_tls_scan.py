"""What sslyze finds at the ports of a node: nothing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.nodes.logins.test_sasl_peers import Door
from tests.nodes.logins.test_sasl_peers import door as door

sslyze: Any = pytest.importorskip("sslyze", reason="sslyze is not installed: make tls")
PORTS = ("imaps", "pop3s", "submissions", "imap", "smtp", "submission")
STARTTLS = {"imap": "IMAP", "smtp": "SMTP", "submission": "SMTP"}
GROUPS = {"X25519", "secp256r1", "secp384r1", "secp521r1"}


@pytest.fixture(scope="module")
def scanned(door: Door) -> dict[str, Any]:
    """The results of each port."""
    scanner = sslyze.Scanner(per_server_concurrent_connections_limit=2, concurrent_server_scans_limit=2)
    requests = [
        sslyze.ServerScanRequest(
            server_location=sslyze.ServerNetworkLocation("localhost", door.port(kind), ip_address="127.0.0.1"),
            network_configuration=sslyze.ServerNetworkConfiguration(
                "localhost",
                tls_opportunistic_encryption=getattr(sslyze.ProtocolWithOpportunisticTlsEnum, STARTTLS[kind])
                if kind in STARTTLS
                else None,
            ),
        )
        for kind in PORTS
    ]
    scanner.queue_scans(requests)
    kinds = {door.port(kind): kind for kind in PORTS}
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
    assert old
    assert all(name.startswith("TLS_ECDHE_") and ("_GCM_" in name or "CHACHA20" in name) for name in old)
    assert set(new) == {"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"}
    curves = {one.name for one in found.elliptic_curves.result.supported_curves}
    assert curves == GROUPS


@pytest.mark.parametrize("kind", PORTS)
def test_no_known_weakness_is_found(scanned: dict[str, Any], kind: str) -> None:
    found = scanned[kind]
    assert not found.tls_compression.result.supports_compression
    assert not found.heartbleed.result.is_vulnerable_to_heartbleed
    assert not found.openssl_ccs_injection.result.is_vulnerable_to_ccs_injection
    assert found.robot.result.robot_result.name.startswith("NOT_VULNERABLE")
    assert not found.session_renegotiation.result.is_vulnerable_to_client_renegotiation_dos
    assert found.session_renegotiation.result.supports_secure_renegotiation
    assert not found.tls_1_3_early_data.result.supports_early_data
    assert found.tls_extended_master_secret.result.supports_ems_extension
    assert found.tls_fallback_scsv.result.supports_fallback_scsv


@pytest.mark.skipif("TESTSSL" not in os.environ, reason="a minute for each port: make tls")
@pytest.mark.parametrize("kind", ["imaps", "submission"])
def test_testssl_finds_nothing(door: Door, kind: str, tmp_path: Path) -> None:
    program = shutil.which("testssl") or pytest.skip("testssl is not installed: scripts/debian-packages")
    found = tmp_path / "found.json"
    start = ("--starttls", "smtp") if kind == "submission" else ()
    checks = ("--protocols", "--server-preference", "--fs", "--vulnerable")
    command = (program, "--quiet", "--color", "0", "--warnings", "off", "--ip", "127.0.0.1", "--jsonfile", str(found))
    subprocess.run((*command, *start, *checks, f"localhost:{door.port(kind)}"), timeout=600, capture_output=True)
    findings = json.loads(found.read_text())
    assert len(findings) > 20
    assert [one for one in findings if one["severity"] not in ("OK", "INFO", "DEBUG")] == []
