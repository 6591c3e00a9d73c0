"""Two cells of one node each, in this process: what stops a follower, what holds it up, and how it goes on."""

import asyncio
import json
import shutil
import ssl
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import pytest
from click.testing import CliRunner

from actors.acme import ACME, SetAccount, account, account_place
from actors.directory import account_of, is_local_domain
from actors.mailbox import Deliver
from actors.runtime import NewBody
from chaos.cluster import free_base_port
from cli import layout
from cli.client import AdminClient
from cli.main import main
from cli.output import CommandError
from eventlog.record import digest_of
from nodes.config import sources as config_sources
from nodes.resealing import counts
from nodes.server import Node
from nodes.state import NodeState
from nodes.tls.contexts import admin_client_context, follower_client_context
from tests.actors.cell import ADMIN, a_mail

Run = Callable[[Coroutine[Any, Any, Any]], Any]
ALICE = "alice@example.test"


class Cell(NamedTuple):
    folder: layout.Cluster
    state: NodeState

    async def cli(self, *arguments: str) -> str:
        """A `mailraft` command against this cell; what it printed. Raises AssertionError that shows what it said."""
        environment = {"MAILRAFT_CLUSTER": str(self.folder.folder)}
        done = await asyncio.to_thread(CliRunner().invoke, main, list(arguments), env=environment)
        assert done.exit_code == 0, done.stderr
        return done.stdout

    async def ask(self, method: str, path: str, body: Any = None) -> Any:
        client = AdminClient(self.folder)
        if method == "GET":
            return await asyncio.to_thread(client.get, path)
        return await asyncio.to_thread(client.change, method, path, body)

    async def deliver(self, data: bytes) -> None:
        node = self.state.services
        assert node is not None
        with node.log.snapshot() as snapshot:
            target = account_of(snapshot, ALICE)
        mail = a_mail(data)
        await node.runtime.ask(target.account, Deliver(mail.message), ADMIN, [NewBody(target.tenant, data)])

    async def followed(self, reached: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The subscription, once it is as it should be."""
        async with asyncio.timeout(30):
            while True:
                (found,) = (await self.ask("GET", "/v1/region/follows"))["follows"]
                if reached(found):
                    return dict(found)
                await asyncio.sleep(0.05)

    async def caught_up(self, source: "Cell") -> dict[str, Any]:
        assert source.state.log is not None
        position = source.state.log.status().applied
        return await self.followed(lambda one: one["lag_records"] == 0 and one["position"] >= position)

    def holds(self, word: bytes) -> bool:
        """Whether the node's database holds these bytes. The lock file is left alone: to close it ends its locks."""
        return any(word in path.read_bytes() for path in self.folder.nodes[0].folder.glob("data/**/data.mdb"))

    async def messages(self) -> list[Any]:
        folders = (await self.ask("GET", f"/v1/mailboxes/{ALICE}"))["folders"]
        return list(next(one for one in folders if one["name"] == "INBOX")["messages"])


class Pair(NamedTuple):
    source: Cell
    follower: Cell
    grant: Path


def two_cells(run: Run, folder: Path, story: Callable[[Pair], Awaitable[None]], *overrides: str) -> None:
    """Runs a story with a source that has a tenant, and a grant to follow it; overrides are the follower's."""

    async def told(pair: Pair) -> None:
        await pair.source.ask("POST", "/v1/tenants", {"name": "example", "domains": ["example.test"]})
        await pair.source.ask("POST", "/v1/accounts", {"address": ALICE, "password": "password of it"})
        await pair.source.cli("region", "grant", "tokyo", "--tenant", "example", "--out", str(pair.grant))
        await story(pair)

    while_they_run(run, made(folder), folder / "grant", told, *overrides)


def made(folder: Path) -> list[layout.Cluster]:
    """The folders of a source and of a follower."""
    return [layout.create(folder / name, 1, free_base_port(1)) for name in ("source", "follower")]


def while_they_run(
    run: Run, cells: list[layout.Cluster], grant: Path, story: Callable[[Pair], Awaitable[None]], *overrides: str
) -> None:
    """Runs a story from the start of both cells to their end."""

    async def session() -> None:
        source, follower = [
            Node(config_sources.load(one.nodes[0].config, {}, told))
            for one, told in zip(cells, ((), overrides), strict=True)
        ]
        async with source.running() as at_home, follower.running() as elsewhere:
            for state in (at_home, elsewhere):
                async with asyncio.timeout(15):
                    while state.unready():
                        await asyncio.sleep(0.02)
            await story(Pair(Cell(cells[0], at_home), Cell(cells[1], elsewhere), grant))

    run(session())


def test_a_revoked_grant_ends_it_and_a_new_one_goes_on_from_there(run: Run, tmp_path: Path) -> None:
    async def story(pair: Pair) -> None:
        await pair.follower.cli("region", "follow", "--grant", str(pair.grant))
        await pair.source.deliver(b"one")
        await pair.follower.caught_up(pair.source)
        await pair.source.cli("region", "revoke", "tokyo")
        halted = await pair.follower.followed(lambda one: one["state"] == "halted")
        assert halted["reason"] == "the grant tokyo was revoked"
        await pair.source.deliver(b"two")
        again = str(tmp_path / "again")
        await pair.source.cli("region", "grant", "tokyo", "--tenant", "example", "--out", again)
        await pair.follower.cli("region", "follow", "--grant", again)
        await pair.follower.caught_up(pair.source)
        assert await pair.follower.messages() == await pair.source.messages()

    two_cells(run, tmp_path, story)


def test_the_key_of_a_cell_with_a_replica_rotates_and_the_replicas_passwords_with_it(run: Run, tmp_path: Path) -> None:
    async def story(pair: Pair) -> None:
        node = pair.follower.state.services
        assert node is not None
        place = account_place("https://acme.example.test/")
        sealed = node.directory.seal(b"key", place)
        await node.runtime.ask(ACME, SetAccount("https://acme.example.test/", (), "", sealed), ADMIN)
        await pair.follower.cli("region", "follow", "--grant", str(pair.grant))
        await pair.follower.caught_up(pair.source)
        await pair.follower.cli("cluster", "rotate-key", str(pair.follower.folder.folder))
        with node.log.snapshot() as snapshot:
            assert list(counts(snapshot).values()) == [3]
            assert None not in counts(snapshot)
            kept = account(snapshot.view(ACME))
        assert kept is not None
        assert node.directory.unseal(kept.sealed, place) == b"key"
        assert await node.directory.logins.password(ALICE, "password of it", "imap", known=True) is not None
        await pair.source.cli("cluster", "rotate-key", str(pair.source.folder.folder))
        await pair.source.ask("PUT", f"/v1/accounts/{ALICE}/password", {"password": "another password"})
        await pair.follower.caught_up(pair.source)
        assert await node.directory.logins.password(ALICE, "another password", "imap", known=True) is not None

    two_cells(run, tmp_path, story)


def test_a_replica_begun_after_keys_were_taken_out_has_the_passwords_that_they_sealed(run: Run, tmp_path: Path) -> None:
    """Of three keys the first two are gone, and the password was set under the second."""
    cells, grant = made(tmp_path), tmp_path / "grant"

    async def set_and_rotate(pair: Pair) -> None:
        source, folder = pair.source, str(pair.source.folder.folder)
        await source.ask("POST", "/v1/tenants", {"name": "example", "domains": ["example.test"]})
        await source.cli("cluster", "rotate-key", folder)
        await source.ask("POST", "/v1/accounts", {"address": ALICE, "password": "password of it"})
        await source.cli("cluster", "rotate-key", folder)
        await source.cli("cluster", "rotate-key", folder)
        await source.cli("region", "grant", "tokyo", "--tenant", "example", "--out", str(grant))

    async def follow(pair: Pair) -> None:
        await pair.follower.cli("region", "follow", "--grant", str(grant))
        await pair.follower.caught_up(pair.source)
        node = pair.follower.state.services
        assert node is not None
        assert await node.directory.logins.password(ALICE, "password of it", "imap", known=True) is not None

    while_they_run(run, cells, grant, set_and_rotate)
    file = cells[0].nodes[0].folder / "cluster.key"
    keys = file.read_text().split()
    assert len(keys) == 4
    file.write_text(f"{keys[-1]}\n")
    while_they_run(run, cells, grant, follow)


def test_a_name_that_is_taken_here_holds_it_up_until_it_is_free(run: Run, tmp_path: Path) -> None:
    async def story(pair: Pair) -> None:
        await pair.follower.ask("POST", "/v1/tenants", {"name": "local", "domains": ["example.test"]})
        await pair.follower.cli("region", "follow", "--grant", str(pair.grant))
        blocked = await pair.follower.followed(lambda one: one["state"] == "blocked")
        assert "example.test is taken in this cell by another" in blocked["reason"]
        assert blocked["records"] == 0

    two_cells(run, tmp_path, story)


def test_a_message_above_the_limit_here_holds_it_up_and_says_which_key(run: Run, tmp_path: Path) -> None:
    async def story(pair: Pair) -> None:
        await pair.follower.cli("region", "follow", "--grant", str(pair.grant))
        await pair.source.deliver(b"x" * 100_000)
        blocked = await pair.follower.followed(lambda one: one["state"] == "blocked")
        assert "limits.message_bytes" in blocked["reason"]

    two_cells(run, tmp_path, story, "limits.message_bytes=65536")


def test_a_backlog_is_followed_in_few_records_each_message_once_and_in_order(run: Run, tmp_path: Path) -> None:
    async def story(pair: Pair) -> None:
        for number in range(130):
            await pair.source.deliver(b"message %d" % (number % 100))  # some have the body of another
        assert pair.follower.state.log is not None
        before = pair.follower.state.log.status().applied
        await pair.follower.cli("region", "follow", "--grant", str(pair.grant))
        found = await pair.follower.caught_up(pair.source)
        assert await pair.follower.messages() == await pair.source.messages()
        assert found["records"] > 130
        assert pair.follower.state.log.status().applied - before < 65

    two_cells(run, tmp_path, story)


def test_what_stands_before_a_record_that_can_not_be_followed_is_followed(run: Run, tmp_path: Path) -> None:
    async def story(pair: Pair) -> None:
        for number in range(20):
            await pair.source.deliver(b"small %d" % number)
        small = await pair.source.messages()
        await pair.source.deliver(b"x" * 100_000)
        await pair.follower.cli("region", "follow", "--grant", str(pair.grant))
        await pair.follower.followed(lambda one: one["state"] == "blocked")
        assert await pair.follower.messages() == small

    two_cells(run, tmp_path, story, "limits.message_bytes=65536")


def test_of_records_that_wait_together_those_before_a_taken_name_are_followed(run: Run, tmp_path: Path) -> None:
    async def story(pair: Pair) -> None:
        await pair.follower.ask("POST", "/v1/tenants", {"name": "local", "domains": ["taken.test"]})
        for number in range(20):
            await pair.source.deliver(b"before %d" % number)
        before = await pair.source.messages()
        await pair.source.ask("POST", "/v1/tenants/example/domains", {"domain": "taken.test"})
        await pair.source.deliver(b"after")
        await pair.follower.cli("region", "follow", "--grant", str(pair.grant))
        blocked = await pair.follower.followed(lambda one: one["state"] == "blocked")
        assert "taken.test is taken in this cell by another" in blocked["reason"]
        assert await pair.follower.messages() == before

    two_cells(run, tmp_path, story)


def test_a_position_that_the_source_does_not_have_is_refused(run: Run, tmp_path: Path) -> None:
    async def story(pair: Pair) -> None:
        for after, why in ((1, "is another"), (999, "it ends at")):
            status, error = await asked(pair, f"after={after}&chain={'00' * 32}")
            assert (status, error["category"]) == (409, "diverged")
            assert why in error["detail"]

    two_cells(run, tmp_path, story)


def test_a_source_that_went_back_to_an_earlier_point_is_followed_no_further(run: Run, tmp_path: Path) -> None:
    cells, grant = made(tmp_path), tmp_path / "grant"
    data, kept = cells[0].nodes[0].folder / "data", tmp_path / "kept"

    async def early(pair: Pair) -> None:
        await pair.source.ask("POST", "/v1/tenants", {"name": "example", "domains": ["example.test"]})
        await pair.source.ask("POST", "/v1/accounts", {"address": ALICE, "password": "password of it"})
        await pair.source.cli("region", "grant", "tokyo", "--tenant", "example", "--out", str(grant))

    async def later(pair: Pair) -> None:
        await pair.follower.cli("region", "follow", "--grant", str(grant))
        await pair.source.deliver(b"one that home will not remember")
        await pair.follower.caught_up(pair.source)

    async def after_it_went_back(pair: Pair) -> None:
        for number in range(5):  # as long as it was, or longer
            await pair.source.deliver(b"another %d" % number)
        halted = await pair.follower.followed(lambda one: one["state"] == "halted")
        assert "this is not the log that was followed" in halted["reason"]
        assert len(await pair.follower.messages()) == 1

    while_they_run(run, cells, grant, early)
    shutil.copytree(data, kept)
    while_they_run(run, cells, grant, later)
    shutil.rmtree(data)
    shutil.copytree(kept, data)
    while_they_run(run, cells, grant, after_it_went_back)


def test_one_account_is_followed_alone_and_its_domain_is_not_local(run: Run, tmp_path: Path) -> None:
    async def story(pair: Pair) -> None:
        await pair.source.ask("POST", "/v1/accounts", {"address": "bob@example.test", "password": "password of it"})
        asked = {"name": "phone", "scopes": ["imap"]}
        app = await pair.source.ask("POST", f"/v1/accounts/{ALICE}/app-passwords", asked)
        grant = str(tmp_path / "alice")
        await pair.source.cli("region", "grant", "alice", "--account", ALICE, "--out", grant)
        await pair.follower.cli("region", "follow", "--grant", grant)
        await pair.source.deliver(b"one")
        followed = await pair.follower.caught_up(pair.source)
        assert followed["address"] == ALICE
        assert await pair.follower.messages() == await pair.source.messages()
        accounts = (await pair.follower.ask("GET", "/v1/accounts"))["accounts"]
        assert [one["address"] for one in accounts] == [ALICE]
        node = pair.follower.state.services
        assert node is not None
        for password in ("password of it", app["password"]):
            assert await node.directory.logins.password(ALICE, password, "imap") is not None
        with node.log.snapshot() as snapshot:
            assert not is_local_domain(snapshot, "example.test")

    two_cells(run, tmp_path, story)


def test_what_is_redacted_at_home_is_gone_from_the_followers_files_too(run: Run, tmp_path: Path) -> None:
    async def story(pair: Pair) -> None:
        secret = b"words-that-must-go " * 20_000  # goes in chunks
        await pair.follower.cli("region", "follow", "--grant", str(pair.grant))
        for data in (b"before", secret, b"after"):
            await pair.source.deliver(data)
        await pair.follower.caught_up(pair.source)
        assert pair.follower.holds(secret[:18])
        await pair.source.cli("log", "redact", "--message", digest_of(secret).hex(), "--reason", "asked for", "--yes")
        await pair.follower.caught_up(pair.source)
        assert await pair.follower.messages() == await pair.source.messages()
        async with asyncio.timeout(30):
            while pair.follower.holds(secret[:18]):
                await asyncio.sleep(0.1)

    two_cells(run, tmp_path, story)


def test_an_administrator_of_the_cell_is_no_follower(run: Run, tmp_path: Path) -> None:
    async def story(pair: Pair) -> None:
        folder = pair.source.folder.folder
        admin = folder / "admin"
        context = admin_client_context(folder / "ca" / "ca.pem", admin / "admin.pem", admin / "admin.key")
        status, error = await asked(pair, "after=0&chain=" + "00" * 32, context)
        assert (status, error["category"]) == (403, "forbidden")

    two_cells(run, tmp_path, story)


def test_what_the_command_refuses(run: Run, tmp_path: Path) -> None:
    async def story(pair: Pair) -> None:
        document = json.loads(pair.grant.read_text())
        assert pair.grant.stat().st_mode & 0o777 == 0o600
        with pytest.raises(CommandError, match="a grant of this cell itself"):
            await pair.source.ask("POST", "/v1/region/follows", document)
        with pytest.raises(CommandError, match="transfer_key"):
            await pair.follower.ask("POST", "/v1/region/follows", {**document, "transfer_key": "00"})
        with pytest.raises(CommandError, match="certificate can not be used"):
            await pair.follower.ask("POST", "/v1/region/follows", {**document, "certificate": "x"})
        await pair.follower.ask("POST", "/v1/region/follows", document)
        with pytest.raises(CommandError, match="is followed as tokyo, and goes on under that name"):
            await pair.follower.ask("POST", "/v1/region/follows", {**document, "as": "second"})
        await pair.follower.caught_up(pair.source)
        with pytest.raises(CommandError, match="this is a replica"):
            await pair.follower.ask(
                "POST", "/v1/accounts", {"address": "new@example.test", "password": "password of it"}
            )
        with pytest.raises(CommandError, match="its home, the cell"):
            await pair.follower.ask("POST", "/v1/region/scope", {"tenant": "example"})

    two_cells(run, tmp_path, story)


async def asked(pair: Pair, place: str, context: ssl.SSLContext | None = None) -> tuple[int, Any]:
    """Status and error of a request for the feed, with the grant's certificate unless told otherwise."""
    grant = json.loads(pair.grant.read_text())
    tls = context or follower_client_context(grant["authority"], grant["certificate"], grant["key"])
    async with aiohttp.ClientSession() as session:
        async with session.get(f"https://{grant['endpoints']['n1']}/v1/follow?{place}", ssl=tls) as answer:
            return answer.status, await answer.json()
