"""Schemathesis against a running node: what the description says holds, for requests that are right and for wrong ones.

MAILRAFT_SCHEMATHESIS_S makes it longer, MAILRAFT_SCHEMATHESIS_SEEDS repeats it (`make schemathesis`). What is not asked
stands in schemathesis_left_out.py, each with its reason; what is asked less often than the rest, in schemathesis.toml.
"""

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import uvloop

from chaos.cluster import free_base_port
from cli import layout
from cli.client import AdminClient
from nodes.config import sources as config_sources
from nodes.http.admin import endpoints
from nodes.http.openapi import openapi_path
from nodes.server import Node
from tests.nodes.http.schemathesis_left_out import NEVER, SLOW

pytest.importorskip("schemathesis", reason="schemathesis is not installed")
SECONDS = float(os.environ.get("MAILRAFT_SCHEMATHESIS_S", "25"))
SEEDS = os.environ.get("MAILRAFT_SCHEMATHESIS_SEEDS", "1").split()
LONG = SECONDS >= 60
# no name server answers, so nobody is dialled whose name is made up; and no mail leaves
SETTINGS = ("dns.nameservers=127.0.0.1:9", "dns.timeout_s=0.2", "queue.send=false", "limits.auth_delay_s=0")
CONFIG = Path(__file__).with_name("schemathesis.toml")


def test_what_is_left_out_exists() -> None:
    declared = {f"{one.method} {openapi_path(one.path)}" for one in endpoints()}
    assert set(NEVER) | set(SLOW) <= declared


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.timeout(SECONDS + 120)
def test_a_node_answers_as_its_description_says(tmp_path: Path, seed: str) -> None:
    cell = layout.create(tmp_path / "cell", 1, free_base_port(1))

    async def session() -> subprocess.CompletedProcess[str]:
        async with Node(config_sources.load(cell.nodes[0].config, {}, SETTINGS)).running() as state:
            while state.unready():
                await asyncio.sleep(0.05)
            token = await asyncio.to_thread(with_something, AdminClient(cell))
            return await asyncio.to_thread(examined, cell, tmp_path, token, seed)

    found = uvloop.run(session())  # the fixture would end it too early
    said, _, _ = found.stdout.partition("=== WARNINGS ===")
    assert found.returncode == 0, said[-20_000:] + found.stderr[-2000:]


def with_something(client: AdminClient) -> str:
    """What the examples of the description name, and a token for all of it."""
    client.change("POST", "/v1/tenants", {"name": "example", "domains": ["example.test"]})
    client.change("POST", "/v1/accounts", {"address": "bob@example.test", "password": "correct horse battery"})
    made: dict[str, str] = client.change("POST", "/v1/tokens", {"name": "schemathesis", "role": "cluster-admin"})
    return made["token"]


def examined(cell: layout.Cluster, folder: Path, token: str, seed: str) -> subprocess.CompletedProcess[str]:
    url = f"https://{cell.nodes[0].addresses['admin']}/v1/openapi.json"
    options: dict[str, Any] = {
        "--tls-verify": cell.folder / "ca" / "ca.pem",
        "--header": f"Authorization: Bearer {token}",
        "--exclude-checks": "ignored_auth",  # wrong tokens run into 429; test_api_docs.py asks without one
        "--max-time": int(SECONDS),
        "--max-examples": 200 if LONG else 10,
        "--max-failures": 10,
        "--phases": "examples,coverage,fuzzing",
        "--request-timeout": 20,
        "--seed": seed,
        "--generation-database": "none",
        "--suppress-health-check": "filter_too_much",  # of its own generator: few of what it draws are names
    }
    left_out = [*NEVER, *(() if LONG else SLOW)]
    arguments = [str(one) for name, value in options.items() for one in (name, value)]
    arguments += [part for one in left_out for part in ("--exclude-name", one)]
    program = [sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()"]
    command = [*program, "--config-file", CONFIG, "run", url, *arguments, "--no-color"]
    hooks = {"SCHEMATHESIS_HOOKS": "schemathesis_hooks", "PYTHONPATH": str(CONFIG.parent)}
    return subprocess.run(
        list(map(str, command)),
        cwd=folder,
        env=os.environ | hooks,
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS + 90,
    )
