"""A failure has one code wherever it is met: the API's problem, the command's error, the log's line, the metric."""

from __future__ import annotations

import io
import json
import urllib.request
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from click.testing import CliRunner

from cli import layout
from cli.client import AdminClient
from cli.main import main
from nodes import logs
from nodes.config.node import LogSection
from nodes.errors.kinds import EXITS
from nodes.errors.registry import REGISTRY
from tests.nodes.http.one_node import cell as cell
from tests.nodes.http.one_node import refused, serving
from tests.nodes.http.test_account_state import PASSWORD, Run, with_people

Do = Callable[[AdminClient], Any]
# by code: what is asked for, and the command that asks for the same
FAILURES: dict[str, tuple[Do, tuple[str, ...]]] = {
    "no_such_account": (
        lambda client: client.get("/v1/accounts/nil@example.test/credentials"),
        ("account", "show", "nil@example.test"),
    ),
    "no_such_tenant": (lambda client: client.get("/v1/tenants/nil"), ("tenant", "show", "nil")),
    "no_such_position": (lambda client: client.get("/v1/log/999999"), ("log", "show", "999999")),
    "name_taken": (
        lambda client: client.change("POST", "/v1/tenants", {"name": "example", "domains": ["other.test"]}),
        ("tenant", "add", "example", "--domain", "other.test"),
    ),
    "over_tenant_quota": (
        lambda client: client.change("POST", "/v1/accounts", {"address": "c@example.test", "password": PASSWORD}),
        ("account", "add", "c@example.test", "--password-stdin"),
    ),
    "not_allowed": (
        lambda client: client.change("POST", "/v1/cluster/tokens", {"name": "n1"}),
        ("cluster", "token", "create", "DIR", "n1"),
    ),
}


def counted(cell: layout.Cluster, code: str) -> float:
    with urllib.request.urlopen(f"http://{cell.nodes[0].addresses['http']}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    kind = REGISTRY[code]
    wanted = f'code="{code}",category="{kind.category}",severity="{kind.severity}"'
    return sum(float(line.rpartition(" ")[2]) for line in lines if "errors_total{" in line and _has(line, wanted))


def _has(line: str, wanted: str) -> bool:
    return all(part in line for part in wanted.split(","))


def refusals(lines: io.StringIO) -> list[str]:
    told = [json.loads(line) for line in lines.getvalue().splitlines()]
    return [line["code"] for line in told if line["event"] == "refused"]


def test_each_failure_has_one_code_in_all_four_places(
    run: Run, cell: layout.Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = io.StringIO()
    logs.configure(LogSection(format="json"), lines)
    monkeypatch.setattr("nodes.serving.logs.configure", lambda _settings: None)  # when the cell's settings are read

    def ask(client: AdminClient) -> None:
        with_people(client)
        client.change("PUT", "/v1/tenants/example/quotas", {"set": {"accounts": 3}})
        for code, (do, words) in FAILURES.items():
            kind, before = REGISTRY[code], counted(cell, code)
            lines.truncate(lines.seek(0))
            error = refused(partial(do, client))
            assert (error.code, error.said["category"], error.said["retry"]) == (code, kind.category, kind.retry.when)
            assert counted(cell, code) == before + 1  # asked of the loop that logs, so that it has
            assert refusals(lines) == [code]
            told, exit_code = by_command(cell, words)
            assert (told["code"], told["category"], told["retry"]) == (code, kind.category, kind.retry.when)
            assert (told["detail"], exit_code) == (str(error), told["exit_code"])
            assert exit_code == EXITS.get(kind.category, 1)

    serving(run, cell, ask)
    monkeypatch.undo()
    logs.configure(LogSection())


def by_command(cell: layout.Cluster, words: tuple[str, ...]) -> tuple[dict[str, Any], int]:
    line = [str(cell.folder) if word == "DIR" else word for word in (*words, "--json")]
    settings = {"MAILRAFT_CLUSTER": str(cell.folder)}
    done = CliRunner().invoke(main, line, env=settings, input=f"{PASSWORD}\n")
    return json.loads(done.stderr.splitlines()[-1])["error"], done.exit_code


def test_a_node_that_does_not_answer_is_told_in_the_same_words_of_the_registry(cell: layout.Cluster) -> None:
    told, exit_code = by_command(cell, ("tenant", "list"))
    kind = REGISTRY["unreachable"]
    assert (told["code"], told["category"], told["retry"], exit_code) == (kind.code, kind.category, "elsewhere", 4)
