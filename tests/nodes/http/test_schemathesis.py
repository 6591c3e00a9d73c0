"""Schemathesis against a running node: what the description says holds, for requests that are right and for wrong ones.

MAILRAFT_SCHEMATHESIS_S makes it longer (`make schemathesis`). Left out are what ends the node's own service or takes
long by its nature: jobs over the whole log, look-ups in DNS, other servers, and waits that one asks for; and
/v1/accounts/batch, which is a path of /v1/accounts/{address} too, and so has the methods of both.
"""

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from chaos.cluster import free_base_port
from cli import layout
from cli.client import AdminClient
from nodes.config import sources as config_sources
from nodes.server import Node
from tests.nodes.http.test_admin import Run

pytest.importorskip("schemathesis", reason="schemathesis is not installed")
SECONDS = float(os.environ.get("MAILRAFT_SCHEMATHESIS_S", "25"))
LEFT_OUT = (
    r"/v1/log/(verify|rebuild|what-if|records|segment|tables|archive.*|anchor)$"
    r"|/v1/doctor|/validate$|/v1/redactions|/quarantine$|/v1/checkpoint|/v1/members|/restore$|/v1/login$|/v1/log$"
    r"|/v1/log/archive/|/v1/acme|/v1/mail$|/v1/tokens|/v1/roles|/v1/accounts/batch$"
    r"|/v1/search/rebuild|/v1/dkim/.*/(keys|rotate)$"
)
CONFIG = Path(__file__).with_name("schemathesis.toml")


@pytest.mark.timeout(SECONDS + 120)
def test_a_node_answers_as_its_description_says(run: Run, tmp_path: Path) -> None:
    cell = layout.create(tmp_path / "cell", 1, free_base_port(1))

    async def session() -> subprocess.CompletedProcess[str]:
        async with Node(config_sources.load(cell.nodes[0].config, {})).running() as state:
            while state.unready():
                await asyncio.sleep(0.05)
            token = await asyncio.to_thread(with_something, AdminClient(cell))
            return await asyncio.to_thread(examined, cell, tmp_path, token)

    found = run(session())
    said, _, _ = found.stdout.partition("=== WARNINGS ===")
    assert found.returncode == 0, said[-20_000:] + found.stderr[-2000:]


def with_something(client: AdminClient) -> str:
    """What the examples of the description name, and a token for all of it."""
    client.change("POST", "/v1/tenants", {"name": "example", "domains": ["example.test"]})
    client.change("POST", "/v1/accounts", {"address": "bob@example.test", "password": "correct horse battery"})
    made: dict[str, str] = client.change("POST", "/v1/tokens", {"name": "schemathesis", "role": "cluster-admin"})
    return made["token"]


def examined(cell: layout.Cluster, folder: Path, token: str) -> subprocess.CompletedProcess[str]:
    url = f"https://{cell.nodes[0].addresses['admin']}/v1/openapi.json"
    options: dict[str, Any] = {
        "--tls-verify": cell.folder / "ca" / "ca.pem",
        "--header": f"Authorization: Bearer {token}",
        "--exclude-checks": "ignored_auth",  # wrong tokens run into 429; test_api_docs.py asks without one
        "--exclude-path-regex": LEFT_OUT,
        "--max-time": int(SECONDS),
        "--max-examples": 10 if SECONDS < 60 else 200,
        "--max-failures": 10,
        "--phases": "examples,coverage,fuzzing",
        "--request-timeout": 20,
        "--seed": 1,
        "--generation-database": "none",
    }
    arguments = [str(one) for name, value in options.items() for one in (name, value)]
    program = [sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()"]
    command = [*program, "--config-file", CONFIG, "run", url, *arguments, "--no-color"]
    return subprocess.run(
        list(map(str, command)), cwd=folder, capture_output=True, text=True, check=False, timeout=SECONDS + 90
    )
