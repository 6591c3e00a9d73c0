"""The cluster's key rotates while three nodes serve: secrets open before and after; a node without it is told."""

from __future__ import annotations

import asyncio
import imaplib
import json
import socket
import ssl
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from actors import keyring, kind
from actors.keyring import KEYRING
from actors.routes import ROUTES, SetRoute, place, routes
from actors.sealing import KeyRing, SealBroken, key_id
from chaos.cluster import free_base_port
from cli import layout
from cli.client import AdminClient
from cli.cluster import cluster as cluster_group
from cli.output import CommandError
from cli.rotate_key import rotate_key
from nodes.config import sources as config_sources
from nodes.config.node import split_address
from nodes.resealing import counts
from nodes.server import Node
from nodes.starting import StartError
from nodes.state import NodeState
from nodes.tls.node_certificates import CellAuthority
from tests.nodes.policy.trio import ADMIN, ALICE, trio, until

Run = Callable[[Coroutine[Any, Any, Any]], Any]
OLD, NEW = bytes(range(32)), bytes(range(32, 64))
PASSWORD = "secret of alice"


# -- the ring


def ring_with_two() -> KeyRing:
    ring = KeyRing(OLD)
    ring.add(NEW)
    return ring


def test_what_the_first_key_sealed_opens_after_another_is_used() -> None:
    ring = ring_with_two()
    before = ring.seal(b"secret", b"alice")
    ring.use(key_id(NEW), ring.sealed_root(key_id(NEW)))
    after = ring.seal(b"secret", b"alice")
    assert ring.unseal(before, b"alice") == ring.unseal(after, b"alice") == b"secret"
    assert (ring.is_current(before), ring.is_current(after)) == (False, True)


def test_a_ring_with_the_new_key_alone_opens_what_that_sealed_and_derives_the_same() -> None:
    ring = ring_with_two()
    derived, root = ring.derive(b"x"), ring.sealed_root(key_id(NEW))
    before = ring.seal(b"secret", b"alice")
    ring.use(key_id(NEW), root)
    alone = KeyRing(NEW)
    alone.use(key_id(NEW), root)
    assert alone.unseal(ring.seal(b"secret", b"alice"), b"alice") == b"secret"
    assert alone.derive(b"x") == derived
    assert alone.unseal(before, b"alice") == b"secret"  # what derives is the first key itself


def test_a_ring_without_the_key_says_which() -> None:
    ring = ring_with_two()
    ring.use(key_id(NEW), ring.sealed_root(key_id(NEW)))
    with pytest.raises(SealBroken, match=f"the key {key_id(NEW).hex()}, which this node does not hold"):
        KeyRing(OLD).unseal(ring.seal(b"secret", b"alice"), b"alice")


def test_every_event_that_carries_a_sealed_secret_is_known_to_be_sealed_anew() -> None:
    facts = [one for one in kind._facts.values() if one.__module__.startswith("actors.")]
    carrying = {one.TYPE for one in facts if "sealed" in getattr(one, "__dataclass_fields__", {})}
    assert carrying == {
        "AcmeAccountSet", "AcmeOrderPlaced", "ApiTokenCreated", "ApopSecretSet", "AppPasswordAdded",
        "CellAuthorityStored", "CellAuthoritySuccessorNamed", "CertificateAdded", "DkimKeysAdded", "FollowStarted",
        "GrantIssued", "OneTimeCodesEnrolled", "PasswordSet", "RouteSet", "SecretResealed",
    }  # fmt: skip


# -- a cell


def sealed(state: NodeState) -> dict[bytes | None, int]:
    assert state.log is not None
    with state.log.snapshot() as snapshot:
        return counts(snapshot)


class Tls:
    """A mail client with one TLS session, which it brings to every node that it turns to."""

    def __init__(self) -> None:
        self._context = ssl._create_unverified_context()
        self._session: ssl.SSLSession | None = None

    def resumes(self, state: NodeState) -> bool:
        """Whether the session that another node began, if any, goes on at this one."""
        with (
            socket.create_connection(split_address(state.endpoints["imaps"]), timeout=30) as plain,
            self._context.wrap_socket(plain, session=self._session) as secure,
        ):
            assert secure.recv(100).startswith(b"* OK")  # behind the tickets of TLS 1.3
            self._session = self._session or secure.session
            return bool(secure.session_reused)


async def may_log_in(state: NodeState) -> bool:
    assert state.services is not None
    found = await state.services.directory.logins.password(ALICE, PASSWORD, "imap", known=True)
    return found is not None


async def hand_to_a_follower(folder: Path, states: list[NodeState]) -> None:
    """What a rotation leaves behind that was broken off: a key that the leader never got."""
    follower = next(state for state in states if state.log is not None and state.log.status().role != "leader")
    client = AdminClient(layout.load(folder))
    name = follower.config.node.name
    await asyncio.to_thread(client.change, "POST", "/v1/cluster-keys", {"key": NEW.hex()}, name)
    assert follower.log is not None

    def is_known() -> bool:
        assert follower.log is not None
        with follower.log.snapshot() as snapshot:
            return key_id(NEW) in keyring.holders(snapshot.view(KEYRING))

    await until(is_known)


def test_a_key_rotates_under_nodes_that_serve(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "cell"

    async def session() -> None:
        async with trio(folder) as nodes:
            before_keys = {(folder / "n1" / "cluster.key").read_text().strip()}
            services = nodes.states[0].services
            assert services is not None
            secret = services.directory.seal(b"password of us", place("default"))
            command = SetRoute("default", "smart.example.test", 587, "verify", "", "us", secret)
            await services.runtime.ask(ROUTES, command, ADMIN)
            before = sealed(nodes.states[0])
            assert set(before) == {None}
            client = Tls()
            turns = [await asyncio.to_thread(client.resumes, state) for state in nodes.states]
            assert turns == [False, True, True]
            await hand_to_a_follower(folder, nodes.states)
            done = await asyncio.to_thread(CliRunner().invoke, rotate_key, [str(folder)])
            assert done.exit_code == 0, done.output
            keys = [set((folder / name / "cluster.key").read_text().split()) for name in ("n1", "n2", "n3")]
            (new,) = (key_id(bytes.fromhex(key)) for key in set.intersection(*keys) - before_keys)
            assert (folder / "n1" / "cluster.key").stat().st_mode & 0o777 == 0o600
            await until(lambda: all(sealed(state) == {new: before[None]} for state in nodes.states))
            for state in nodes.states:
                assert await may_log_in(state)
                assert state.log is not None
                with state.log.snapshot() as snapshot:
                    assert set(keyring.retired(snapshot.view(KEYRING))) == {b"", key_id(NEW)}
                    (route,) = routes(snapshot.view(ROUTES))
                assert state.services is not None
                assert state.services.directory.unseal(route.sealed, place("default")) == b"password of us"
            await nodes.lose(0)
            await nodes.come_back(0)
            assert await may_log_in(nodes.states[0])
            for state in nodes.states:  # the one that began it has another life now
                assert await asyncio.to_thread(client.resumes, state)
            again = await asyncio.to_thread(CliRunner().invoke, rotate_key, [str(folder), "--json"])
            assert again.exit_code == 0, again.output
            assert await may_log_in(nodes.states[2])

    run(session())


def test_a_key_that_a_member_lacks_is_not_used(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "cell"

    async def session() -> None:
        async with trio(folder) as nodes:
            client = AdminClient(layout.load(folder))
            added = await asyncio.to_thread(client.change, "POST", "/v1/cluster-keys", {"key": NEW.hex()}, "n1")
            assert [one["state"] for one in added["keys"]] == ["used", "new"]
            body = {"id": key_id(NEW).hex()}
            with pytest.raises(CommandError, match=r"is not there yet at n1, n2, n3|is not there yet at n2, n3"):
                await asyncio.to_thread(client.change, "PUT", "/v1/cluster-keys", body, "n1")
            with pytest.raises(CommandError, match="is not there at this node"):
                await asyncio.to_thread(client.change, "PUT", "/v1/cluster-keys", body, "n2")
            assert set(sealed(nodes.states[0])) == {None}

    run(session())


def test_a_node_without_the_key_in_use_does_not_start_and_says_which_it_lacks(run: Run, tmp_path: Path) -> None:
    cluster = layout.create(tmp_path / "cell", 1, free_base_port(1))
    config = config_sources.load(cluster.nodes[0].config, {})
    file = cluster.nodes[0].folder / "cluster.key"
    first = file.read_text()

    async def rotate() -> None:
        async with Node(config).running() as state:
            await until(lambda: not state.unready())
            done = await asyncio.to_thread(CliRunner().invoke, rotate_key, [str(cluster.folder)])
            assert done.exit_code == 0, done.output

    async def start() -> None:
        async with Node(config).running():
            pass

    run(rotate())
    both = file.read_text()
    file.write_text(first)
    with pytest.raises(StartError, match=r"lacks the key [0-9a-f]{8}, under which the secrets of this cell are sealed"):
        run(start())
    file.write_text(both)
    run(start())


def test_what_was_before_a_rotation_is_seen_and_restored_after_it(run: Run, tmp_path: Path) -> None:
    """As a look back, and as a cell of its own; which trusts its own authority, whatever its log says of another."""
    cluster = layout.create(tmp_path / "cell", 1, free_base_port(1))
    config = config_sources.load(cluster.nodes[0].config, {})

    async def look_back() -> int:
        async with Node(config).running() as state:
            await until(lambda: not state.unready())
            assert state.services is not None
            await state.services.directory.add_tenant("example", ["example.test"], ADMIN)
            await state.services.directory.add_account(ALICE, PASSWORD, None, ADMIN)
            secret = state.services.directory.seal(b"password of us", place("default"))
            command = SetRoute("default", "smart.example.test", 587, "verify", "", "us", secret)
            await state.services.runtime.ask(ROUTES, command, ADMIN)
            position = state.services.log.status().applied
            for line in (["token", "create", str(cluster.folder), "n9"], ["rotate-key", str(cluster.folder)]):
                done = await asyncio.to_thread(CliRunner().invoke, cluster_group, line)
                assert done.exit_code == 0, done.output
            assert await asyncio.to_thread(seen_at, cluster.nodes[0].addresses["imap"], position) == ["OK"]
        return position

    async def restored(node: layout.Node) -> None:
        ca = (node.folder / "ca.pem").read_text()
        async with Node(config_sources.load(node.config, {})).running() as state:
            await until(lambda: not state.unready())
            assert await may_log_in(state)
            assert state.services is not None
            with state.services.log.snapshot() as snapshot:
                (route,) = routes(snapshot.view(ROUTES))
            assert state.services.directory.unseal(route.sealed, place("default")) == b"password of us"
            assert not CellAuthority(state.services).trusted()
        assert (node.folder / "ca.pem").read_text() == ca

    position = run(look_back())
    first, second = (cluster.nodes[0].folder / "cluster.key").read_text().split()
    (without_first := tmp_path / "without first").write_text(second)
    begun = ["restore", "--from", str(cluster.folder), "--into", str(tmp_path / "lacking"), "--nodes", "1", "--dry-run"]
    begun += ["--as-of", f"#{position}", "--cluster-key", str(without_first)]
    done = CliRunner().invoke(cluster_group, [*begun, "--json"])
    error = json.loads(done.stderr)["error"]
    assert (done.exit_code, error["code"]) == (1, "sealing_key_missing")
    assert f"{without_first} lacks the key {key_id(bytes.fromhex(first)).hex()}, which seals" in error["detail"]
    assert "--cluster-key FILE" in error["hint"]
    assert CliRunner().invoke(cluster_group, [*begun, "--missing-keys"]).exit_code == 0
    for name, moment in (("before", f"#{position}"), ("after", "latest")):
        into = tmp_path / name
        place_of = ["--from", str(cluster.folder), "--into", str(into), "--as-of", moment]
        ports = ["--nodes", "1", "--base-port", str(free_base_port(1))]
        done = CliRunner().invoke(cluster_group, ["restore", *place_of, *ports])
        assert done.exit_code == 0, done.output
        run(restored(layout.load(into).nodes[0]))


def seen_at(address: str, position: int) -> list[str]:
    """What a client is told that looks at the mailbox as of a position."""
    host, _, port = address.rpartition(":")
    client = imaplib.IMAP4(host, int(port), timeout=30)
    client.login(f"{ALICE}@@#{position}", PASSWORD)
    found = [client.select("INBOX", readonly=True)[0]]
    client.logout()
    return found
