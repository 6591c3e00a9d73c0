"""What docs/api.md says to type works; the explorer loads nothing from elsewhere; strangers see nothing else."""

import http.client
import re
import shlex
import shutil
import ssl
import subprocess
from pathlib import Path
from typing import Any

import pytest

from chaos.cluster import free_base_port
from cli import layout
from cli.client import AdminClient
from nodes.http.admin import endpoints
from nodes.http.endpoint import ANYBODY
from nodes.http.openapi import openapi_path
from tests.nodes.http.one_node import Run, serving

PAGE = Path(__file__).parents[3] / "docs" / "api.md"


@pytest.fixture
def cell(tmp_path: Any) -> layout.Cluster:
    return layout.create(tmp_path / "cell", 1, free_base_port(1))


def commands() -> list[str]:
    """The lines of shell on the page."""
    blocks = re.findall(r"```sh\n(.*?)```", PAGE.read_text(), re.DOTALL)
    return [line for block in blocks for line in block.replace("\\\n", " ").splitlines() if line]


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_page_s_commands_work(run: Run, cell: layout.Cluster) -> None:
    def ask(client: AdminClient) -> None:
        token = client.change("POST", "/v1/tokens", {"name": "docs", "role": "cluster-admin"})["token"]
        words = {"NODE": cell.nodes[0].addresses["admin"], "DIR": str(cell.folder), "$TOKEN": token}
        for line in commands():
            parts = shlex.split(line)
            for name, value in words.items():
                parts = [part.replace(name, value) for part in parts]
            asked = [*parts, "--silent", "--show-error", "--fail-with-body"]
            done = subprocess.run(asked, capture_output=True, text=True, check=False, timeout=30)
            assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
            words["$ETAG"] = done.stdout  # where it is what the line before asked for
        assert [one["name"] for one in client.pages("/v1/tenants", "tenants")] == ["example"]

    assert len(commands()) >= 4
    serving(run, cell, ask)


def stranger(cell: layout.Cluster) -> http.client.HTTPSConnection:
    """Without certificate and token."""
    context = ssl.create_default_context(cafile=str(cell.folder / "ca" / "ca.pem"))
    context.check_hostname = False
    host, _, port = cell.nodes[0].addresses["admin"].rpartition(":")
    return http.client.HTTPSConnection(host, int(port), context=context, timeout=20)


def asked(connection: http.client.HTTPSConnection, method: str, path: str) -> tuple[int, str, bytes]:
    connection.request(method, path)
    answer = connection.getresponse()
    return answer.status, answer.headers.get("Content-Security-Policy", ""), answer.read()


def test_the_explorer_and_all_that_it_loads_come_from_the_node_alone(run: Run, cell: layout.Cluster) -> None:
    pytest.importorskip("mkdocs_swagger_ui_tag")

    def ask(_client: AdminClient) -> None:
        connection = stranger(cell)
        status, policy, page = asked(connection, "GET", "/v1/explorer")
        assert status == 200
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert b"//" not in page.replace(b"<!doctype html>", b"")
        loaded = re.findall(r'(?:src|href)="([^"]+)"', page.decode())
        assert len(loaded) == 3
        for path in loaded:
            status, policy, body = asked(connection, "GET", f"/v1/{path}")
            assert (status, "default-src 'none'" in policy) == (200, True)
            assert body
        assert asked(connection, "GET", "/v1/openapi.json")[0] == 200

    serving(run, cell, ask)


def test_nothing_else_is_told_to_whoever_shows_nothing(run: Run, cell: layout.Cluster) -> None:
    def ask(_client: AdminClient) -> None:
        connection, opened = stranger(cell), []
        for one in endpoints():
            path = re.sub(r"\{\w+\}", "1", openapi_path(one.path).replace("{job}", "verify"))
            status, _, body = asked(connection, one.method, path)
            if one.permission == ANYBODY:
                continue
            if status != 401 or b"unauthenticated" not in body:
                opened.append((one.method, path, status))
        assert opened == []

    serving(run, cell, ask)
