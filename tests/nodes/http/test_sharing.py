"""Public folders and rights to folders: the admin API and the command line, on a running node."""

import json
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from click.testing import CliRunner

from cli import layout
from cli.client import AdminClient
from cli.main import main
from tests.nodes.http.one_node import cell as cell
from tests.nodes.http.one_node import refused, serving

Run = Callable[[Coroutine[Any, Any, Any]], Any]
ALICE, BOB = "alice@example.test", "bob@example.test"


def with_people(client: AdminClient) -> None:
    for tenant in ("example", "other"):
        client.change("POST", "/v1/tenants", {"name": tenant, "domains": [f"{tenant}.test"]})
    for address in (ALICE, BOB, "eve@other.test"):
        client.change("POST", "/v1/accounts", {"address": address, "password": "correct horse"})


def rights(client: AdminClient, place: str) -> dict[str, list[tuple[str, bool, str]]]:
    folders = client.get(f"/v1/shared/{place}")["folders"]
    return {
        one["name"]: [(line["whom"], line["negative"], line["rights"]) for line in one["rights"]] for one in folders
    }


def test_public_folders_are_made_shared_and_deleted(run: Run, cell: layout.Cluster) -> None:
    def ask(client: AdminClient) -> None:
        with_people(client)
        assert rights(client, "example") == {}
        client.change("POST", "/v1/tenants/example/folders", {"name": "News/2026"})
        assert rights(client, "example") == {"News": [], "News/2026": []}
        line = {"name": "News", "whom": "anyone", "rights": "rl"}
        assert client.change("PUT", "/v1/shared/example/rights", line)["rights"] == "lr"
        client.change("PUT", "/v1/shared/example/rights", {**line, "whom": BOB, "rights": "r", "negative": True})
        assert rights(client, "example")["News"] == [("anyone", False, "lr"), (BOB, True, "r")]
        again = partial(client.change, "POST", "/v1/tenants/example/folders", {"name": "News"})
        assert "News exists" in str(refused(again))
        client.change("DELETE", "/v1/tenants/example/folders?name=News")
        assert rights(client, "example") == {"News/2026": []}
        gone = partial(client.change, "DELETE", "/v1/tenants/example/folders?name=News")
        assert "there is no folder News" in str(refused(gone))

    serving(run, cell, ask)


def test_somebody_looks_after_anothers_mail_and_nobody_of_another_tenant(run: Run, cell: layout.Cluster) -> None:
    def ask(client: AdminClient) -> None:
        def put(**body: Any) -> Any:
            return client.change("PUT", f"/v1/shared/{ALICE}/rights", body)

        with_people(client)
        put(name="*", whom=BOB, rights="lrswd")
        assert rights(client, ALICE) == {"*": [(BOB, False, "lrswxte")]}
        put(name="*", whom=BOB, rights="")
        assert rights(client, ALICE) == {}
        for whom, why in (("eve@other.test", "no account"), (ALICE, "keeps them"), ("somebody", "with an address")):
            assert why in str(refused(partial(put, name="INBOX", whom=whom, rights="lr")))
        assert "the rights are" in str(refused(partial(put, name="INBOX", whom=BOB, rights="lrQ")))
        assert "there is no folder" in str(refused(partial(put, name="absent", whom=BOB, rights="lr")))

    serving(run, cell, ask)


def test_the_command_line_shares_and_lists(run: Run, cell: layout.Cluster) -> None:
    def ask(client: AdminClient) -> None:
        def call(*arguments: str) -> str:
            done = CliRunner().invoke(main, ["share", *arguments, "--cluster", str(cell.folder)])
            assert done.exit_code == 0, done.output
            return done.output

        with_people(client)
        assert "nobody sees it yet" in call("create", "example", "News")
        call("grant", "example", "News", "anyone", "lr")
        call("grant", ALICE, "*", BOB, "lrswite")
        assert "anyone" in call("list", "example")
        listed = json.loads(call("list", ALICE, "--json"))
        assert listed["folders"][0]["rights"] == [{"whom": BOB, "negative": False, "rights": "lrswite"}]
        call("grant", ALICE, "*", BOB, "none")
        assert json.loads(call("list", ALICE, "--json"))["folders"] == []
        assert "deleted" in call("delete", "example", "News", "--yes")

    serving(run, cell, ask)


def test_who_may_send_as_whom_is_granted_listed_and_revoked(run: Run, cell: layout.Cluster) -> None:
    def ask(client: AdminClient) -> None:
        def call(*arguments: str) -> str:
            done = CliRunner().invoke(main, ["share", *arguments, "--cluster", str(cell.folder)])
            assert done.exit_code == 0, done.output
            return done.output

        def listed() -> list[tuple[str, str]]:
            return [(one["whom"], one["how"]) for one in json.loads(call("senders", ALICE, "--json"))["senders"]]

        with_people(client)
        client.change("POST", "/v1/groups", {"address": "staff@example.test", "members": [BOB]})
        assert "may send as" in call("send-as", ALICE, BOB)
        call("send-as", ALICE, "group:staff", "--on-behalf")
        assert listed() == [(BOB, "send-as"), ("group:staff@example.test", "on-behalf")]
        assert BOB in call("senders", ALICE)
        call("send-as", ALICE, BOB, "--none")
        client.change("DELETE", "/v1/groups/staff@example.test")
        assert listed() == []
        put = partial(client.change, "PUT", f"/v1/accounts/{ALICE}/senders")
        for whom, why in (("eve@other.test", "no account"), (ALICE, "keeps them"), ("anyone", "not everybody")):
            assert why in str(refused(partial(put, {"whom": whom, "how": "send-as"})))

    serving(run, cell, ask)
