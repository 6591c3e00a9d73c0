"""Certificates between nodes: a node joins with a token, all make new ones under open connections, one is removed."""

from __future__ import annotations

import contextlib
import hashlib
import imaplib
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from chaos.cluster import Cluster, ClusterError, free_base_port
from chaos.observation import read_mailbox
from cli.client import AdminClient
from cli.layout import load
from cli.supervisor import environment, program
from nodes import joining
from nodes.addresses import split_address
from nodes.tls import contexts as tls
from nodes.tls.joining_token import JoiningToken
from tests.acceptance.membership_load import Load
from tests.acceptance.site import ALICE


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("cell") / "cluster") as made:
        yield made


def until(true: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline_s
        time.sleep(0.2)


def certificate_of(cluster: Cluster, name: str) -> bytes:
    """Its fingerprint, as the admin port shows it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    address = load(cluster.folder).node(name).addresses["admin"]
    with socket.create_connection(split_address(address), 10) as plain, context.wrap_socket(plain) as secure:
        return hashlib.sha256(secure.getpeercert(binary_form=True) or b"").digest()


def members(cluster: Cluster) -> dict[str, dict[str, Any]]:
    found = AdminClient(load(cluster.folder)).get("/v1/members")["members"]
    return {one["name"]: one for one in found}


def join(folder: Path, token: str, port: int) -> subprocess.CompletedProcess[str]:
    command = program("node", "join", str(folder), "--host", "127.0.0.1", "--base-port", str(port), "--json")
    return subprocess.run(command, input=token, capture_output=True, text=True, timeout=60, env=environment())


@contextmanager
def running(folder: Path) -> Iterator[None]:
    with (folder / "node.log").open("wb") as log:
        command = program("node", "run", "--config", str(folder / "mailraft.toml"))
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment())
        try:
            yield
        finally:
            process.terminate()
            process.wait(30)


def test_every_node_makes_itself_a_new_certificate_and_nobody_is_disconnected(cluster: Cluster) -> None:
    password = cluster.add_accounts("example", (ALICE,))
    cluster.wait_settled()
    _, port = split_address(cluster.status().nodes[0].endpoints["imaps"])
    trust = ssl.create_default_context(cafile=str(cluster.folder / "ca" / "ca.pem"))
    client = imaplib.IMAP4_SSL("localhost", port, ssl_context=trust, timeout=30)
    client.login(ALICE, password)
    before = {name: certificate_of(cluster, name) for name in cluster.names()}
    cluster.command("cluster", "rotate-certificates", str(cluster.folder))
    until(lambda: all(certificate_of(cluster, name) != before[name] for name in cluster.names()))
    assert client.select()[0] == "OK"
    client.logout()
    cluster.wait_settled()
    assert b"PRIVATE KEY" not in json.dumps(AdminClient(load(cluster.folder)).get("/v1/cluster/authority")).encode()
    now = {name: certificate_of(cluster, name) for name in cluster.names()}
    time.sleep(1)
    assert now == {name: certificate_of(cluster, name) for name in cluster.names()}


def test_a_node_joins_with_a_token_and_is_refused_once_it_was_removed(cluster: Cluster, tmp_path: Path) -> None:
    folder, port = tmp_path / "n7", free_base_port(1)
    token = json.loads(cluster.command("cluster", "token", "create", str(cluster.folder), "n7", "--json"))["token"]
    wrong = token[:-8] + ("A" * 8 if not token.endswith("A" * 8) else "B" * 8)
    assert join(tmp_path / "wrong", wrong, port).returncode != 0
    done = join(folder, token, port)
    assert done.returncode == 0, done.stderr
    assert {path.name: path.stat().st_mode & 0o777 for path in folder.glob("*.key")} == {
        "node.key": 0o600,
        "cluster.key": 0o600,
    }
    again = join(tmp_path / "again", token, port)
    assert "the token is not good" in again.stderr
    assert not (tmp_path / "again" / "mailraft.toml").exists()
    with running(folder):
        until(lambda: members(cluster)["n7"]["voter"])
        AdminClient(load(cluster.folder)).change("DELETE", "/v1/members/n7")
        until(lambda: "removed from the cell" in (folder / "node.log").read_text())
    with pytest.raises(ClusterError, match="a name is not used again"):
        cluster.command("cluster", "token", "create", str(cluster.folder), "n7")
    admin = load(cluster.folder).nodes[0].addresses["admin"]
    source = joining.Source(
        admin, load(cluster.folder).id, "n7", folder / "ca.pem", folder / "node.pem", folder / "node.key", 1
    )
    with contextlib.closing(joining.connect(source)) as connection:
        connection.request("GET", "/v1/checkpoint")
        with pytest.raises(ssl.SSLError, match="CERTIFICATE_REVOKED"):
            connection.getresponse()


def test_a_token_is_worthless_once_it_was_revoked(cluster: Cluster, tmp_path: Path) -> None:
    made = json.loads(cluster.command("cluster", "token", "create", str(cluster.folder), "n8", "--json"))
    assert made["id"] in cluster.command("cluster", "token", "list", str(cluster.folder), "--json")
    cluster.command("cluster", "token", "revoke", str(cluster.folder), made["id"])
    assert "the token is not good" in join(tmp_path / "n8", made["token"], free_base_port(1)).stderr
    assert "n8" not in members(cluster)


def test_another_cell_is_told_nothing(cluster: Cluster, tmp_path: Path) -> None:
    """What answers at the address is not the cell of the token: its secret does not leave."""
    made = json.loads(cluster.command("cluster", "token", "create", str(cluster.folder), "n9", "--json"))
    other = tls.pem_of(tls.new_authority("other").certificate).decode()
    text = JoiningToken.read(made["token"])._replace(authority=other).text()
    done = join(tmp_path / "n9", text, free_base_port(1))
    assert "certificate verify failed" in done.stderr
    assert made["id"] in cluster.command("cluster", "token", "list", str(cluster.folder), "--json")


def rotate_until(cluster: Cluster, reached: Callable[[], bool]) -> None:
    """The command is killed once it is so far."""
    words = program("cluster", "rotate-ca", str(cluster.folder), "--yes")
    with subprocess.Popen(words, stderr=subprocess.DEVNULL, env=environment()) as rotating:
        while not reached():
            assert rotating.poll() is None
            time.sleep(0.005)
        rotating.kill()


def refused_as(cluster: Cluster, folder: Path, stem: str) -> str:
    """The alert with which the first node's admin port ends a connection with the certificate that is kept here."""
    context = tls.admin_client_context(cluster.folder / "ca" / "ca.pem", folder / f"{stem}.pem", folder / f"{stem}.key")
    address = split_address(load(cluster.folder).nodes[0].addresses["admin"])
    with socket.create_connection(address, 10) as plain, pytest.raises(ssl.SSLError) as error:
        with context.wrap_socket(plain) as secure:
            secure.recv(1)
    return str(error.value.reason)


def test_the_authority_is_rotated_under_mail_over_killed_commands_and_a_killed_node(
    cluster: Cluster, tmp_path: Path
) -> None:
    old = tmp_path / "old"
    shutil.copytree(cluster.folder / "admin", old)
    authority = cluster.folder / "ca" / "ca.pem"
    before = authority.read_text()
    password = cluster.add_accounts("mail", ("bob@mail.test",))
    with Load(cluster.folder, "bob@mail.test") as mail:
        mail.wait_for(5)
        rotate_until(cluster, (authority.parent / "next" / "ca.pem").exists)
        pid = cluster.status().node("n2").pid
        rotate_until(cluster, lambda: not authority.read_text().startswith(before))
        os.kill(pid, signal.SIGKILL)
        kept = json.loads(cluster.command("cluster", "rotate-ca", str(cluster.folder), "--keep-old", "--json"))
        assert kept["former"]
        assert [one["renewed"] for one in kept["nodes"]] == [True] * 3
        cluster.wait_settled()
        refusals = len(mail.refusals)  # while a node was dead
        mail.wait_for(5)
        done = json.loads(cluster.command("cluster", "rotate-ca", str(cluster.folder), "--yes", "--json"))
        assert (done["next"], done["former"], done["in_force"]) == (None, None, kept["in_force"])
        cluster.wait_settled()
        mail.wait_for(5)
        assert mail.refusals[refusals:] == []
    now = authority.read_text()
    assert before not in now
    names = cluster.names()
    until(lambda: all((cluster.folder / name / "ca.pem").read_text() == now for name in names))
    assert refused_as(cluster, old, "admin").endswith("ALERT_UNKNOWN_CA")
    for node in cluster.wait_settled().nodes:
        held = [copy.identity for copy in read_mailbox(node.endpoints["imap"], "bob@mail.test", password)]
        assert mail.acknowledged <= set(held)
        assert len(held) == len(set(held))
    token = json.loads(cluster.command("cluster", "token", "create", str(cluster.folder), "n10", "--json"))["token"]
    joined = join(tmp_path / "n10", token, free_base_port(1))
    assert joined.returncode == 0, joined.stderr
    assert (tmp_path / "n10" / "ca.pem").read_text() == now
    AdminClient(load(cluster.folder)).change("DELETE", "/v1/members/n10")
