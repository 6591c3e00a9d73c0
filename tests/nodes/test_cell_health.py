"""What nodes tell each other of how they do: who is silent, whose clock is off, whether there is a quorum."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from pydantic import ValidationError

from eventlog.log import EventLog, LogStatus, MemberStatus
from nodes import health
from nodes.cell_health import SILENT_S, CellHealth
from nodes.config.node import NodeConfig
from nodes.metrics import Metrics
from nodes.state import NodeState
from tests.nodes.conftest import MakeCell

OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"


class Clock:
    """Seconds that pass when a test says so, and how far the wall clock is off."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.off_s = 0.0

    def wall_ms(self) -> int:
        return int((self.now_s + self.off_s) * 1000)


def node_of_three(config: NodeConfig, name: str, time: Clock, leader: str | None = "n1", **other: Any) -> CellHealth:
    members = tuple(MemberStatus(one, "127.0.0.1:1", True, None) for one in ("n1", "n2", "n3"))
    role = "leader" if name == leader else "follower"
    status = LogStatus(name, role, leader, 3, 10, 10, 10, 0, b"", 1 << 40, True, None, members)
    status = status._replace(**other)
    log = cast("EventLog", SimpleNamespace(config=SimpleNamespace(name=name), status=lambda: status))
    state = NodeState(config, Metrics(name), phase="serving", log=log)
    state.cell = CellHealth(state, log, lambda: time.now_s, time.wall_ms)
    return state.cell


@pytest.fixture
def three(make_cell: MakeCell) -> Callable[..., list[CellHealth]]:
    """Three nodes by their clocks, which have just started."""
    _, config = make_cell()
    return lambda *times: [node_of_three(config, f"n{at}", time) for at, time in enumerate(times, 1)]


def tell_each_other(nodes: list[CellHealth]) -> None:
    for teller in nodes:
        for hearer in nodes:
            if hearer is not teller:
                hearer.merge(teller._log.config.name, teller.changes() or b"")


def nodes_of(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in report["nodes"]}


def test_three_nodes_that_hear_each_other_are_healthy(three: Callable[..., list[CellHealth]]) -> None:
    time = Clock()
    nodes = three(time, time, time)
    tell_each_other(nodes)
    report = nodes[1].report()
    assert (report["status"], report["problems"], report["leader"]) == ("healthy", [], "n1")
    assert report["quorum"] == {"voters": 3, "heard": 3, "needed": 2, "has": True}


def test_a_node_that_is_not_heard_of_is_said_so(three: Callable[..., list[CellHealth]]) -> None:
    time = Clock()
    nodes = three(time, time, time)
    tell_each_other(nodes)
    time.now_s += SILENT_S + 1
    tell_each_other(nodes[:2])
    report = nodes[0].report()
    assert report["status"] == "degraded"
    assert nodes_of(report)["n3"]["heard"] is False
    assert nodes_of(report)["n3"]["ready"] is None
    assert "n3: nothing was heard of it for 5 s" in report["problems"]
    assert nodes_of(report)["n2"]["down"] == {"cell": "not heard from: n3"}


def test_a_node_alone_says_that_there_is_no_quorum(three: Callable[..., list[CellHealth]]) -> None:
    time = Clock()
    nodes = three(time, time, time)
    time.now_s += SILENT_S + 1
    report = nodes[2].report()
    assert report["status"] == "critical"
    assert report["problems"][0] == "no quorum: 1 of 3 voters are heard of, and 2 are needed"


@pytest.mark.parametrize("off_s", [3600.0, -3600.0])
def test_the_one_whose_clock_is_an_hour_off_is_named_by_all(
    three: Callable[..., list[CellHealth]], off_s: float
) -> None:
    right, wrong = Clock(), Clock()
    wrong.off_s = off_s
    nodes = three(right, right, wrong)
    tell_each_other(nodes)
    tell_each_other(nodes)  # what the others made of the first
    for node in nodes:
        report = node.report()
        assert [round(one["clock_off_s"]) for one in report["nodes"]] == [0, 0, off_s]
        (problem,) = report["problems"]
        assert re.fullmatch(r"n3: clock: it is 3600\.0 s (ahead of|behind) the other nodes': .* is refused", problem)


def test_only_what_is_critical_makes_a_node_unready(make_cell: MakeCell) -> None:
    time, wrong = Clock(), Clock()
    wrong.off_s = 3600.0
    _, config = make_cell()
    node = node_of_three(config, "n1", time)
    node.merge("n2", node_of_three(config, "n2", wrong).changes() or b"")
    time.now_s += SILENT_S - 1
    assert {part.name for part, found in health.examine(node._state) if found.standing == "down"} == {"clock"}
    time.now_s += 2
    assert {part.name for part, found in health.examine(node._state) if found.standing == "down"} == {"cell"}
    assert node._state.unready() == []
    alone = node_of_three(config, "n1", time, leader=None)
    assert alone._state.unready() == ["no leader is known: a majority of the cell must be up"]


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        ({"accepting_mail": False, "disk_free_bytes": 0}, "mail is refused: the disk is at its reserve"),
        ({"commit": 5000}, "the fold is 4990 positions behind"),
        ({"accepting_mail": False, "stalled": "X"}, "the fold has stalled: X (way out: mailraft log quarantine 11)"),
    ],
)
def test_a_node_that_can_not_take_mail_or_reads_old_is_unready(
    make_cell: MakeCell, status: dict[str, Any], reason: str
) -> None:
    node = node_of_three(make_cell()[1], "n1", Clock(), **status)
    assert node._state.unready() == [reason]


def test_what_is_no_report_is_not_taken(three: Callable[..., list[CellHealth]]) -> None:
    time = Clock()
    node = three(time, time, time)[0]
    for data in (b"", b"{}", b'{"clock_ms": "now"}'):
        with pytest.raises(ValidationError):
            node.merge("n2", data)
    assert nodes_of(node.report())["n2"]["heard"] is False


def test_no_part_needs_a_later_one_and_critical_ones_need_critical_ones_alone() -> None:
    known: dict[str, bool] = {}
    for part in health.PARTS:
        assert all(name in known for name in part.needs)
        assert not part.critical or all(known[name] for name in part.needs)
        known[part.name] = part.critical


def test_the_parts_are_documented_as_they_are_declared() -> None:
    rows = re.findall(r"^\| ([^|]+) \| (critical|degraded) \| ([^|]*) \| ([^|]+) \|$", OPERATIONS.read_text(), re.M)
    declared = [
        (one.name, "critical" if one.critical else "degraded", ", ".join(one.needs) or "-", one.without_it)
        for one in health.PARTS
    ]
    assert rows == declared
