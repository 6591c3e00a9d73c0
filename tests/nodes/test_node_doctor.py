"""What is found wrong with a machine: a full disk, few descriptors, taken ports, clocks that differ, certificates."""

from __future__ import annotations

import datetime
import resource
import shutil
import socket
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import pytest

from nodes import node_doctor
from nodes.config.values import TIB
from nodes.node_doctor import Finding
from tests.nodes.conftest import MakeCell


def worst(found: Iterable[Finding]) -> Finding:
    order = ["ok", "note", "warning", "error"]
    return max(found, key=lambda one: order.index(one.status))


def test_a_machine_that_is_fit_has_no_errors(make_cell: MakeCell) -> None:
    _, config = make_cell()
    found = node_doctor.examine(config, {"n2": 0.2})
    assert {one.area for one in found} == {
        "disk", "descriptors", "ports", "kernel", "clock", "versions", "certificates",
    }  # fmt: skip
    assert worst(found).status in ("ok", "warning")


def test_a_full_disk_is_an_error(make_cell: MakeCell) -> None:
    _, config = make_cell(f"storage.reserve_bytes={100 * TIB}")
    assert worst(node_doctor.disk(config)).status == "error"
    assert "mail is refused" in worst(node_doctor.disk(config)).text


def test_a_disk_that_fills_is_a_warning(make_cell: MakeCell, monkeypatch: pytest.MonkeyPatch) -> None:
    _, config = make_cell()
    almost = shutil._ntuple_diskusage(10**12, 10**12 - 10**9, 10**9)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: almost)
    assert worst(node_doctor.disk(config)).status == "warning"


def test_few_descriptors_are_an_error(make_cell: MakeCell, monkeypatch: pytest.MonkeyPatch) -> None:
    _, config = make_cell()
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 1024))
    assert "1024 file descriptors are allowed" in worst(node_doctor.descriptors(config)).text


def test_a_port_in_use_by_another_program_is_an_error(make_cell: MakeCell) -> None:
    _, config = make_cell()
    host, _, port = config.listen.imap.rpartition(":")
    with closing(socket.create_server((host, int(port)))):
        found = worst(node_doctor.ports(config))
    assert (found.status, found.text) == ("error", f"listen.imap = {config.listen.imap} is in use")


@pytest.mark.parametrize(("ahead_s", "status"), [(0.3, "ok"), (-2.0, "warning"), (3600.0, "error"), (-3600.0, "error")])
def test_a_clock_is_compared_with_those_of_other_nodes(ahead_s: float, status: str) -> None:
    (found,) = node_doctor.clock({"n2": ahead_s})
    assert found.status == status
    assert ("behind" if ahead_s < 0 else "ahead of") in found.text


def test_settings_of_the_kernel_that_hurt_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("net/core/somaxconn", "128"), ("vm/overcommit_memory", "2")):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(value)
    monkeypatch.setattr(node_doctor, "PROC", tmp_path)
    assert [one.status for one in node_doctor.kernel()] == ["warning", "error", "ok"]


@pytest.mark.parametrize(
    ("days", "status", "said"),
    [
        (0, "ok", "is valid for 396 days"),
        (380, "warning", "is valid for 16 days"),
        (400, "error", "has expired at 20"),
        (-1, "error", "is not valid before 20"),
    ],
)
def test_certificates_are_looked_at(make_cell: MakeCell, days: int, status: str, said: str) -> None:
    _, config = make_cell()
    now = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days)
    found = next(one for one in node_doctor.certificates(config, now) if "tls.certificate" in one.text)
    assert found.status == status
    assert f'tls.certificate = "{config.tls.certificate}" {said}' in found.text
    assert status == "ok" or "mailraft cluster renew DIR" in found.advice
