"""Certificates of files that have expired, or are not valid yet: at a check, at the start, and at a reload."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import structlog
from click.testing import CliRunner

from cli.main import main
from nodes.config.node import NodeConfig
from nodes.config.reloading import NotReloaded
from nodes.health import examine
from nodes.server import Node
from nodes.starting import StartError
from tests.nodes.config.test_reloading import Running, with_node
from tests.nodes.conftest import MakeCell
from tests.peers import certificates
from tests.peers.certificates import DAY, Pair

Run = Callable[[Coroutine[Any, Any, Any]], Any]
TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"


@pytest.fixture(scope="module")
def old() -> Pair:
    return certificates.server("mail.example.test", expired=True)


@pytest.fixture(scope="module")
def early() -> Pair:
    """Of the next hour, as where this machine's clock is behind."""
    return certificates.server("mail.example.test", begins=DAY / 24)


def put(config: NodeConfig, pair: Pair) -> None:
    config.tls.certificate.write_bytes(pair.pem)
    config.tls.key.write_bytes(pair.key_pem)


def checked(config: NodeConfig) -> tuple[int, str]:
    done = CliRunner().invoke(main, ["config", "check", "--config", str(config.node.data_dir.parent / "mailraft.toml")])
    return done.exit_code, done.output


def test_a_node_starts_with_a_certificate_that_has_expired_and_says_which_since_when_and_what_to_do(
    run: Run, make_cell: MakeCell, old: Pair
) -> None:
    _, config = make_cell()
    put(config, old)

    async def session() -> list[str]:
        async with Node(config).running() as state:
            return [found.reason for part, found in examine(state) if part.name == "certificates"]

    with structlog.testing.capture_logs() as lines:
        assert run(session()) == ["expired: the node and the server certificate"]
    said = next(one for one in lines if one["event"] == "a certificate has expired" and "reason" in one)
    name = re.escape(f'tls.certificate = "{config.tls.certificate}": the certificate of mail.example.test')
    assert re.fullmatch(f"{name} has expired at {TIME}", said["reason"])
    assert (said["log_level"], said["code"]) == ("error", "certificate_unusable")
    assert said["hint"].startswith("mailraft cluster renew DIR")
    status, text = checked(config)  # that it starts with it, and what of
    assert status == 0
    assert re.search(f"warning: {name} has expired at {TIME}: mailraft cluster renew DIR", text)


def test_a_node_does_not_start_with_a_certificate_of_the_future_and_shows_its_own_clock(
    make_cell: MakeCell, early: Pair
) -> None:
    _, config = make_cell()
    put(config, early)
    with pytest.raises(StartError) as refused:
        Node(config)
    assert re.search(f'tls.certificate = "{config.tls.certificate}".* is not valid before {TIME}$', str(refused.value))
    assert re.search(f"this machine's clock, which says {TIME}", refused.value.hint)
    status, text = checked(config)
    assert status == 1
    assert re.search(f"is not valid before {TIME}; needed: another one, or this machine's clock", text)


@pytest.mark.parametrize("files", ["tls.certificate", "tls.server_certificate"])
def test_one_that_has_expired_does_not_take_the_place_of_one_that_has_not(
    run: Run, tmp_path: Path, old: Pair, files: str
) -> None:
    good = certificates.server("mail.example.test")
    server = tmp_path / "server.pem", tmp_path / "server.key"

    async def body(node: Running) -> None:
        config = node.state.config
        if files == "tls.server_certificate":
            server[0].write_bytes(old.pem)
            server[1].write_bytes(old.key_pem)
        else:
            put(config, old)
        tls_files = node.state.tls_files
        assert tls_files is not None
        before = tls_files.node, tls_files.server
        with pytest.raises(NotReloaded) as refused:
            await node.tell(limits={"recipients": 300})
        assert re.match(f'{files} = "[^"]+": .* has expired at {TIME}$', str(refused.value))
        assert refused.value.hint.startswith("mailraft cluster renew" if files == "tls.certificate" else "a new one")
        assert "RCPTMAX=100" in await node.ehlo()  # nothing else of the file holds either
        assert (tls_files.node, tls_files.server) == before
        assert [one.reason for part, one in examine(node.state) if part.name == "certificates"] == [
            f"a changed certificate is not taken: {refused.value}"
        ]

    server[0].write_bytes(good.pem)
    server[1].write_bytes(good.key_pem)
    with_node(run, tmp_path, body, tls={"server_certificate": str(server[0]), "server_key": str(server[1])})


def test_one_of_the_future_does_not_take_a_place_either(run: Run, tmp_path: Path, early: Pair) -> None:
    async def body(node: Running) -> None:
        put(node.state.config, early)
        with pytest.raises(Exception, match="is not valid before") as refused:
            await node.tell(limits={"recipients": 300})
        assert f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}" in str(refused.value)
        assert "RCPTMAX=100" in await node.ehlo()

    with_node(run, tmp_path, body)
