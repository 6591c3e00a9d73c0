"""Every kind of secret on the log is used again after the cluster's key rotated under a node that serves.

What was redacted of one that had been sealed anew is in no file any more: not as it was sealed first, nor later.
"""

from __future__ import annotations

import asyncio
import imaplib
import poplib
import socket
import ssl
import time
from base64 import b32decode
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, NamedTuple

import dkim as dkimpy
import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.twofactor.totp import TOTP

from actors import acme, apop, keyring, region
from actors.acme import ACME, Manage, PlaceOrder, SetAccount, account_place, order_place
from actors.directory import account_of
from actors.dkim import all_keys, dkim_stream
from actors.keyring import KEYRING
from actors.region import REGION, IssueGrant, StartFollow
from chaos.cluster import free_base_port
from cli import layout
from cli.client import AdminClient
from cli.rotate_key import rotate_key
from cli.token_client import TokenClient
from eventlog.record import NO_TENANT, new_id
from nodes.config import sources as config_sources
from nodes.dkim_keys import record_value
from nodes.follower.feed import grant_place
from nodes.follower.grants import follow_place
from nodes.resealing import counts
from nodes.server import Node
from nodes.services import Services
from nodes.state import NodeState
from nodes.tls import contexts as tls
from nodes.tls.acme_client import new_key
from nodes.tls.node_certificates import CellAuthority
from tests.nodes.policy.trio import ADMIN, until
from tests.peers import certificates

Run = Callable[[Coroutine[Any, Any, Any]], Any]
ALICE, BOB, DOMAIN = "alice@example.test", "bob@example.test", "example.test"
PASSWORD, SECRET = "correct horse", "a secret for APOP that is long"
CELL, THEIRS = "elsewhere", b"t" * 16
LETTER = f"From: {ALICE}\r\nSubject: hello\r\n\r\nhello\r\n".encode()


class Secrets(NamedTuple):
    """What was given out before the key rotated."""

    app_password: str
    recovery: list[str]
    token: str
    totp: str
    leaf: bytes
    acme_key: bytes
    order: bytes


@pytest.fixture
def cell(tmp_path: Path) -> layout.Cluster:
    return layout.create(tmp_path / "cell", 1, free_base_port(1))


def serving(
    run: Run, cell: layout.Cluster, ask: Callable[[AdminClient, NodeState], Coroutine[Any, Any, None]], *overrides: str
) -> None:
    async def session() -> None:
        async with Node(config_sources.load(cell.nodes[0].config, {}, overrides)).running() as state:
            await until(lambda: not state.unready())
            await ask(AdminClient(cell), state)

    run(session())


def services_of(state: NodeState) -> Services:
    assert state.services is not None
    return state.services


def make_all(client: AdminClient, cell: layout.Cluster) -> Secrets:
    """One of each kind that the API makes; gives what of them is needed to use them."""
    client.change("POST", "/v1/tenants", {"name": "example", "domains": [DOMAIN]})
    for address in (ALICE, BOB):
        client.change("POST", "/v1/accounts", {"address": address, "password": PASSWORD})
    app = client.change("POST", f"/v1/accounts/{ALICE}/app-passwords", {"name": "phone", "scopes": ["imap"]})
    enrolled = client.change("POST", f"/v1/accounts/{BOB}/totp", {})
    code = TOTP(b32decode(enrolled["secret"]), 6, SHA1(), 30).generate(time.time() - 30).decode()
    client.change("PUT", f"/v1/accounts/{BOB}/totp", {"code": code})
    client.change("PUT", "/v1/tenants/example/policy", {"set": {"pop3_apop": "on"}, "reset": []})
    client.change("PUT", f"/v1/accounts/{ALICE}/apop", {"secret": SECRET})
    client.change("POST", f"/v1/dkim/{DOMAIN}/keys", {"active": True})
    ca = {name: (cell.folder / "ca" / f"ca.{name}").read_text() for name in ("pem", "key")}
    client.change("PUT", "/v1/cluster/authority", {"certificate": ca["pem"], "key": ca["key"]})
    pair = certificates.server(f"mail.{DOMAIN}")
    client.change("POST", "/v1/certificates", {"chain": pair.pem.decode(), "key": pair.key_pem.decode()})
    token = client.change("POST", "/v1/tokens", {"tenant": "example", "role": "auditor"})["token"]
    return Secrets(
        app["password"], enrolled["recovery_codes"], token, enrolled["secret"], pair.der, new_key(), new_key()
    )


async def make_what_needs_others(services: Services, made: Secrets, silent: socket.socket) -> None:
    """A grant, a follow, an account and an order at an authority that does not answer: sealed as the API does it."""
    seal, ask = services.directory.seal, services.runtime.ask
    grant = IssueGrant("tokyo", THEIRS, b"", bytes(32), 2**50, seal(b"g" * 32, grant_place("tokyo")))
    await ask(REGION, grant, ADMIN)
    sealed = seal(b"f" * 32, follow_place(CELL, THEIRS, b""))
    await ask(REGION, StartFollow("paris", CELL, THEIRS, b"", (), "authority", "certificate", sealed), ADMIN)
    directory, id_ = f"https://127.0.0.1:{silent.getsockname()[1]}/directory", new_id()
    account = SetAccount(directory, (), directory + "/1", seal(made.acme_key, account_place(directory)))
    await ask(ACME, account, ADMIN)
    await ask(ACME, Manage(id_, NO_TENANT, ("kept.example.test",), "dns-01"), ADMIN)
    await ask(ACME, PlaceOrder(id_, directory + "/2", seal(made.order, order_place(id_)), ()), ADMIN)


def rotate(cell: layout.Cluster) -> None:
    done = CliRunner().invoke(rotate_key, [str(cell.folder)])
    assert done.exit_code == 0, done.output


def kinds(state: NodeState) -> dict[bytes | None, int]:
    with services_of(state).log.snapshot() as snapshot:
        return counts(snapshot)


# -- each used again


def address_of(cell: layout.Cluster, use: str) -> tuple[str, int]:
    host, _, port = cell.nodes[0].addresses[use].rpartition(":")
    return host, int(port)


def context_of(cell: layout.Cluster) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(cell.folder / "ca" / "ca.pem"))
    context.check_hostname = False
    return context


def logs_in(cell: layout.Cluster, address: str, password: str) -> bool:
    with imaplib.IMAP4(*address_of(cell, "imap"), timeout=20) as session:
        session.starttls(context_of(cell))
        try:
            return session.login(address, password)[0] == "OK"
        except imaplib.IMAP4.error:
            return False


def logs_in_with_apop(cell: layout.Cluster, secret: str) -> bool:
    session = poplib.POP3(*address_of(cell, "pop3"), timeout=20)
    try:
        return session.apop(ALICE, secret).startswith(b"+OK")
    except poplib.error_proto:
        return False
    finally:
        session.close()


def use_logins(client: AdminClient, cell: layout.Cluster, made: Secrets) -> None:
    assert logs_in(cell, ALICE, PASSWORD)
    assert logs_in(cell, ALICE, made.app_password)
    assert logs_in_with_apop(cell, SECRET)
    code = TOTP(b32decode(made.totp), 6, SHA1(), 30).generate(time.time()).decode()
    for word in (code, made.recovery[0]):
        login = {"login": BOB, "password": PASSWORD, "code": word, "client": "192.0.2.7"}
        assert client.change("POST", "/v1/login", login)["address"] == BOB
    assert TokenClient.of_folder(cell, made.token).get("/v1/whoami")["role"] == "auditor"


async def is_signed(services: Services) -> bool:
    with services.log.snapshot() as snapshot:
        tenant = account_of(snapshot, ALICE).tenant
        records = {
            f"{one.selector}._domainkey.{DOMAIN}.".encode(): record_value(one.algorithm, one.public).encode()
            for one in all_keys(snapshot.view(dkim_stream(DOMAIN)))
        }
    lines = await services.signing.sign(tenant, LETTER)
    found = [dkimpy.verify(line + LETTER, dnsfunc=lambda name, timeout=5: records[name]) for line in lines]
    return len(found) == 2 and all(found)


def shown(cell: layout.Cluster) -> bytes:
    """The certificate that a client sees who asks for mail.example.test."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection(address_of(cell, "imaps"), timeout=20) as bare:
        with context.wrap_socket(bare, server_hostname=f"mail.{DOMAIN}") as secure:
            return secure.getpeercert(True) or b""


def use_what_needs_others(services: Services, made: Secrets) -> None:
    unseal = services.directory.unseal
    with services.log.snapshot() as snapshot:
        (grant,), (follow,) = region.grants(snapshot.view(REGION)), region.follows(snapshot.view(REGION))
        account, (order,) = acme.account(snapshot.view(ACME)), acme.managed(snapshot.view(ACME))
    assert account is not None
    assert unseal(account.sealed, account_place(account.directory)) == made.acme_key
    assert unseal(grant.sealed, grant_place("tokyo")) == b"g" * 32
    assert unseal(follow.sealed, follow_place(CELL, THEIRS, b"")) == b"f" * 32
    assert unseal(order.sealed, order_place(order.id)) == made.order


def test_every_kind_of_secret_is_used_again_after_the_key_rotated_and_the_old_one_was_taken_out(
    run: Run, cell: layout.Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Secrets] = []

    async def before(client: AdminClient, state: NodeState) -> None:
        made.append(await asyncio.to_thread(make_all, client, cell))
        await make_what_needs_others(services_of(state), made[0], silent)
        count = kinds(state)[None]
        assert count == 2 + 1 + 1 + 1 + 2 + 1 + 1 + 1 + 2 + 2  # each kind, in the order of `make_all`
        await asyncio.to_thread(rotate, cell)
        assert [*kinds(state).values()] == [count]
        assert None not in kinds(state)
        with services_of(state).log.snapshot() as snapshot:
            assert keyring.retired(snapshot.view(KEYRING)) == [b""]
        use_what_needs_others(services_of(state), made[0])

    async def after(client: AdminClient, state: NodeState) -> None:
        services = services_of(state)
        await asyncio.to_thread(use_logins, client, cell, made[0])
        assert await is_signed(services)
        assert await asyncio.to_thread(shown, cell) == made[0].leaf
        authority = CellAuthority(services)
        id_, secret, _ = await authority.token("n9", 60, ADMIN)
        request = tls.request_of(ec.generate_private_key(ec.SECP256R1()), "n9").decode()
        issued = await authority.issue(id_, secret, request, ["127.0.0.1"], ADMIN)
        assert issued.authority == (cell.folder / "ca" / "ca.pem").read_text()
        assert issued.cluster_key == bytes.fromhex(new)

    with socket.create_server(("127.0.0.1", 0)) as silent:
        serving(run, cell, before)
    file = cell.nodes[0].folder / "cluster.key"
    new = file.read_text().split()[1]
    file.unlink()
    monkeypatch.setenv("TEST_CLUSTER_KEY", new)  # the retired one is taken out, as the docs allow
    serving(run, cell, after, "secrets.cluster_key=env:TEST_CLUSTER_KEY")


# -- redacted with a rotation in between


def holders(folder: Path, wanted: bytes) -> list[str]:
    """The databases that hold these bytes. Lock files are left alone: to close one ends its locks."""
    return [path.name for path in folder.rglob("data.mdb") if wanted in path.read_bytes()]


def sealed_now(state: NodeState) -> list[bytes]:
    """The APOP secret of alice and the DKIM keys, as they are sealed at the moment."""
    with services_of(state).log.snapshot() as snapshot:
        target = account_of(snapshot, ALICE)
        secret = apop.secret_of(snapshot.view(target.tenant), target.account)
        keys = [one.sealed for one in all_keys(snapshot.view(dkim_stream(DOMAIN)))]
    assert secret is not None
    return [secret.sealed, *keys]


def test_of_a_secret_that_was_sealed_anew_a_redaction_leaves_no_copy(run: Run, cell: layout.Cluster) -> None:
    def remove(client: AdminClient) -> None:
        client.change("DELETE", f"/v1/accounts/{ALICE}/apop", None)
        for key in client.get(f"/v1/dkim/{DOMAIN}")["keys"]:
            client.change("DELETE", f"/v1/dkim/{DOMAIN}/keys/{key['selector']}?force=1", None)
        for target in ({"apop": "example"}, {"dkim": DOMAIN}):
            client.change("POST", "/v1/redactions", {"target": target, "reason": "a test"})

    async def ask(client: AdminClient, state: NodeState) -> None:
        folder = state.config.node.data_dir
        await asyncio.to_thread(make_all, client, cell)
        first = sealed_now(state)
        await asyncio.to_thread(rotate, cell)
        second = sealed_now(state)
        await asyncio.to_thread(rotate, cell)
        copies = [*first, *second, *sealed_now(state)]
        assert len(set(copies)) == 9
        assert all(holders(folder, one) for one in copies)
        await asyncio.to_thread(remove, client)
        eraser = services_of(state).log.eraser
        await until(lambda: 0 < eraser.status().redacted == eraser.status().erased)
        assert [holders(folder, one) for one in copies] == [[]] * len(copies)
        rebuilt = await asyncio.to_thread(lambda: list(client.stream("/v1/log/rebuild")))
        assert rebuilt[-1]["result"]["equal"], rebuilt

    serving(run, cell, ask)
