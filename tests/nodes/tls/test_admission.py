"""Who is refused in the handshake although a certificate of the cell's CA is shown: nodes that were removed."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import structlog

from cli import layout
from cli.client import AdminClient
from nodes.addresses import split_address
from nodes.config import sources as config_sources
from nodes.tls import contexts as tls
from nodes.tls import handshakes, libssl
from nodes.tls.admission import Admission
from tests.nodes.policy.trio import trio, until
from tests.nodes.tls.test_tls import handshake

Run = Callable[[Coroutine[Any, Any, Any]], Any]


def guarded(folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext, Admission]:
    """What n1 listens with, what n2 connects with, and who says whether it may."""
    cluster = layout.create(folder / "cell", 3, 20000)
    first, second = (config_sources.load(node.config, {}) for node in cluster.nodes[:2])
    admission = Admission(cluster.id, [tls.load_authority(cluster.folder / "ca").certificate])
    return tls.raft_contexts(first, admission)[0], tls.raft_contexts(second)[1], admission


def test_a_removed_node_is_told_in_the_handshake_that_its_certificate_is_revoked(tmp_path: Path) -> None:
    server, client, admission = guarded(tmp_path)
    handshake(server, client)
    admission.remove(["n2"])
    with structlog.testing.capture_logs() as lines, pytest.raises(ssl.SSLError):
        handshake(server, client)
    assert [line["reason"] for line in lines] == ["it was removed from this cell"]


def test_the_alert_names_revocation(tmp_path: Path) -> None:
    server, client, admission = guarded(tmp_path)
    admission.remove(["n2"])
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    theirs = client.wrap_bio(to_client, to_server, server_hostname="localhost")
    ours = server.wrap_bio(to_server, to_client, server_side=True)
    for side in (theirs, ours):
        with pytest.raises(ssl.SSLWantReadError):
            side.do_handshake()
    theirs.do_handshake()
    with pytest.raises(ssl.SSLWantReadError):
        ours.do_handshake()
    with pytest.raises(ssl.SSLError, match="ALERT_CERTIFICATE_REVOKED"):
        theirs.read(1)


def test_it_is_refused_also_where_libssl_can_not_be_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libssl, "library", lambda: None)
    server, client, admission = guarded(tmp_path)
    admission.remove(["n2"])
    with pytest.raises(ssl.SSLError, match="it was removed from this cell"):
        handshake(server, client)


def test_a_certificate_of_an_authority_that_is_trusted_no_more_is_refused_by_both_sides(tmp_path: Path) -> None:
    server, client, admission = guarded(tmp_path)
    (tmp_path / "next").mkdir()
    admission.trust([tls.create_authority(tmp_path / "next", "cell").certificate])
    with structlog.testing.capture_logs() as lines, pytest.raises(ssl.SSLError):
        handshake(server, client)
    assert lines
    client.sslobject_class = handshakes.reporting("link", admission)
    open_server, _, _ = guarded(tmp_path / "again")
    client.load_verify_locations(tmp_path / "again" / "cell" / "ca" / "ca.pem")
    with pytest.raises(ssl.SSLError):
        handshake(open_server, client)


def test_no_session_is_resumed_past_the_question(tmp_path: Path) -> None:
    server, client, _ = guarded(tmp_path)
    _, side = handshake(server, client)
    assert side.session is None or not side.session.has_ticket


def test_a_node_that_was_removed_while_it_was_away_is_refused_and_says_why_it_does_not_serve(
    run: Run, tmp_path: Path
) -> None:
    folder = tmp_path / "cell"

    def refused(node: layout.Node, port: str, own: Path) -> str:
        context = tls.admin_client_context(own / "ca.pem", own / "node.pem", own / "node.key")
        with socket.create_connection(split_address(node.addresses[port]), 10) as plain:
            with pytest.raises(ssl.SSLError) as error, context.wrap_socket(plain) as secure:
                secure.recv(1)
        return str(error.value.reason)

    async def session() -> None:
        async with trio(folder) as nodes:
            cell = layout.load(folder)
            await nodes.lose(2)
            await asyncio.to_thread(AdminClient(cell).change, "DELETE", "/v1/members/n3")
            for state in nodes.states[:2]:
                assert state.tls_files is not None
                admission = state.tls_files.admission
                await until(lambda a=admission: a._removed == {"n3"})  # type: ignore[misc]
            for port in ("raft", "admin", "region"):
                for node in cell.nodes[:2]:
                    said = await asyncio.to_thread(refused, node, port, folder / "n3")
                    assert said.endswith("ALERT_CERTIFICATE_REVOKED")
            nodes.states[2] = await nodes.start(2)
            await until(lambda: nodes.states[2].phase == "quarantined")
            assert "removed from the cell while it was away" in nodes.states[2].quarantine_reason

    run(session())
