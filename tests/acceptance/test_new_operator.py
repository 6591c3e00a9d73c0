"""What a new operator does after `make run`, by the command line alone: two organisations, each seeing only its own, a
limit that is reached and explained, a certificate rotated under an open session, a setting that is reloaded.

One cluster as `make run` makes it, which other tests of this folder use too.
"""

from __future__ import annotations

import json
import os
import re
import signal
import smtplib
import ssl
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from imapclient import IMAPClient

from cli.client import AdminClient
from cli.layout import load
from cli.main import main
from cli.supervisor import environment, program
from tests.acceptance.site import Site

PASSWORD = "a password of their own"
NORTH, SOUTH = "north", "south"
# every command that lists things of tenants, without naming one
LISTS = (
    "tenant list",
    "account list",
    "alias list",
    "group list",
    "role list",
    "token list",
    "dkim list",
    "queue list",
    "queue stats",
    "report list",
    "report sent",
    "log tail -n 1000",
    "log export",
)
Say = Callable[..., str]


def said_by(settings: dict[str, str]) -> Say:
    def say(line: str, *, given: str = "", exit_code: int | None = 0) -> str:
        done = CliRunner().invoke(main, line.split(), env=settings, input=given)
        assert done.exit_code == exit_code or exit_code is None, (line, done.output)
        return done.output

    return say


@pytest.fixture(scope="module")
def operator(site: Site) -> Say:
    say = said_by({"MAILRAFT_CLUSTER": str(site.cluster.folder)})
    for name in (NORTH, SOUTH):
        say(f"tenant add {name} --domain {name}.test")
        for person in ("ann", "joe"):
            say(f"account add {person}@{name}.test --password-stdin", given=f"{PASSWORD}\n")
        say(f"alias add info@{name}.test ann@{name}.test")
        say(f"group add all@{name}.test joe@{name}.test")
        say(f"role grant ann@{name}.test tenant-admin")
        say(f"dkim generate {name}.test --algorithm ed25519 --active")
        say(f"share create {name} {name.capitalize()}-News")
    return say


@pytest.fixture(scope="module")
def administrators(site: Site, operator: Say) -> dict[str, Say]:
    """By tenant: who has a token and the address of a node, and no folder."""
    address = load(site.cluster.folder).nodes[1].addresses["admin"]
    found = {}
    for name in (NORTH, SOUTH):
        token = operator(f"token create --account ann@{name}.test").splitlines()[0]
        found[name] = said_by({"MAILRAFT_CLUSTER": address, "MAILRAFT_CA": str(site.ca), "MAILRAFT_TOKEN": token})
    return found


def test_each_administrator_sees_only_what_is_their_tenants(administrators: dict[str, Say]) -> None:
    for name, other in ((NORTH, SOUTH), (SOUTH, NORTH)):
        say = administrators[name]
        for line in LISTS:
            shown = say(line, exit_code=None)
            assert "error:" not in shown or "[forbidden]" in shown, (line, shown)
            assert not re.search(other, shown, re.IGNORECASE), (line, shown)
        assert f"ann@{name}.test" in say("account list")
        assert f"info@{name}.test" in say("alias list")
        assert name in say("tenant list")
        for line in (f"tenant show {other}", f"account show ann@{other}.test", f"quota show {other}"):
            assert "there is no" in say(line, exit_code=1)


def test_a_limit_that_is_reached_is_explained_wherever_it_is_met(
    site: Site, operator: Say, administrators: dict[str, Say]
) -> None:
    operator(f"quota set {NORTH} accounts=3 sending_per_hour=1")
    say = administrators[NORTH]
    refused = say("account add sue@north.test --password-stdin", given=f"{PASSWORD}\n", exit_code=1)
    assert "the tenant has as many accounts as it may" in refused
    assert "[over_tenant_quota]" in refused
    assert re.search(r"accounts\s+3\s+3\b", say(f"quota show {NORTH}"))
    assert "may not" in say(f"quota set {NORTH} accounts=9", exit_code=1)
    host, _, port = site.endpoints("submission")[0].rpartition(":")
    with smtplib.SMTP(host, int(port), timeout=20) as client:
        client.login("ann@north.test", PASSWORD)
        client.sendmail("ann@north.test", ["joe@north.test"], "From: ann@north.test\r\n\r\nhello\r\n")
        code, text = client.mail("ann@north.test")
        assert (code, text) == (452, b"4.7.0 The organisation has sent as much as it may in one hour")
    operator(f"quota set {NORTH} accounts=none sending_per_hour=none")
    say("account add sue@north.test --password-stdin", given=f"{PASSWORD}\n")


def test_a_certificate_is_rotated_under_an_idling_session(site: Site, operator: Say) -> None:
    _, _, port = site.endpoints("imaps")[0].rpartition(":")
    trust = ssl.create_default_context(cafile=site.ca)
    with IMAPClient("localhost", int(port), ssl_context=trust, timeout=20) as client:
        client.login("joe@south.test", PASSWORD)
        client.select_folder("INBOX")
        client.idle()
        before = {name: fingerprint(site, name) for name in site.cluster.names()}
        operator("cluster rotate-certificates")
        until(lambda: all(fingerprint(site, name) != before[name] for name in site.cluster.names()))
        operator("send --from ann@south.test --to joe@south.test --subject new --body hello")
        assert (1, b"EXISTS") in client.idle_check(timeout=20)
        client.idle_done()


def fingerprint(site: Site, name: str) -> bytes:
    return (site.cluster.folder / name / "node.pem").read_bytes()


def until(true: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline_s
        time.sleep(0.1)


def test_a_setting_is_reloaded_and_a_wrong_one_changes_nothing(site: Site, operator: Say) -> None:
    file = load(site.cluster.folder).nodes[0].config
    before = file.read_text()
    shown = f"config explain limits.recipients --cluster {site.cluster.folder} --node n1"
    try:
        file.write_text(before.replace("[limits]", "[limits]\nrecipients = 150"))
        assert "limits.recipients" in operator("node reload --node n1")
        assert "150" in operator(shown)
        file.write_text(before.replace("[limits]", "[limits]\nrecipient = 150"))
        wrong = operator("node reload --node n1", exit_code=1)
        assert "limits.recipient" in wrong
        assert "recipients" in wrong
        assert "150" in operator(shown)
    finally:
        file.write_text(before)
        operator("node reload --node n1")


def test_many_accounts_at_once_are_made_once_though_the_command_and_the_leader_are_killed(
    site: Site, operator: Say, tmp_path: Path
) -> None:
    people = [f"p{number}@south.test" for number in range(2000)]
    file = tmp_path / "people.jsonl"
    file.write_text("".join(json.dumps({"address": one}) + "\n" for one in people))
    words = program("account", "import", str(file), "--cluster", str(site.cluster.folder))
    client = AdminClient(load(site.cluster.folder))

    def made() -> list[str]:
        listed = (one["address"] for one in client.pages("/v1/accounts?limit=1000", "accounts"))
        return [one for one in listed if one.startswith("p") and one[1].isdigit()]

    with subprocess.Popen(words, stderr=subprocess.DEVNULL, env=environment()) as importing:
        until(lambda: len(made()) > 0)
        importing.kill()
    assert len(made()) < len(people)
    assert len(made()) % 200 == 0  # a request is a record: all of it or nothing
    leader = site.cluster.status().leader
    assert leader is not None
    killing = threading.Timer(0.2, os.kill, (site.cluster.status().node(leader).pid, signal.SIGKILL))
    killing.start()
    operator(f"account import {file}")
    killing.join()
    site.cluster.wait_settled()
    assert sorted(made()) == sorted(people)
    again = json.loads(operator(f"account import {file} --json").splitlines()[0])
    assert (again["added"], again["exists"], again["refused"]) == (0, len(people), 0)
