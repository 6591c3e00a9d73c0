"""What is collected, finished and received as reports: counted together, ended once, bounded."""

from __future__ import annotations

from typing import Any

import pytest

from actors import reports
from actors.errors import NameTaken, NoSuchItem
from actors.reports import (
    REPORTS,
    CountResults,
    FinishReport,
    ReportCommand,
    SetReporting,
    Subject,
    TakeReport,
    collected,
    decide,
    evolve,
    lines,
    received,
    sent,
    settings,
)
from eventlog.record import By, Stamp
from eventlog.views import DictView

SUBJECT = Subject("dmarc", 20_000, "sender.test")


def do(view: DictView, *commands: ReportCommand, at_ms: int = 1) -> DictView:
    for command in commands:
        for fact in decide(view, command):
            evolve(view, fact, Stamp(1, at_ms, 0, bytes(16), By("node", b"", "test"), "test", 3))
    return view


def counting(*told: tuple[str, int], subject: Subject = SUBJECT, policy: tuple[Any, ...] = ("r",)) -> CountResults:
    return CountResults(*subject, policy, 5, 9, tuple(((what,), count) for what, count in told))


def taking(number: int, **changed: Any) -> TakeReport:
    values: dict[str, Any] = {
        "id": number.to_bytes(16, "big"), "tenant": b"t" * 16, "at_ms": number, "kind": "dmarc", "organisation": "them",
        "report_id": str(number), "domain": "example.test", "begin_s": 1, "end_s": 2, "address": "d@example.test",
        "content": b"\x80", **changed,
    }  # fmt: skip
    return TakeReport(**values)


def test_what_several_nodes_count_adds_up() -> None:
    view = do(DictView(REPORTS), counting(("a", 2), ("b", 1)), counting(("a", 3)), counting(("a", 1), policy=("s",)))
    assert sorted(lines(view, SUBJECT)) == [(("a",), 6), (("b",), 1)]
    (found,) = collected(view)
    assert (found.subject, found.policy, found.lines, found.left_out) == (SUBJECT, ("s",), 2, 0)


def test_lines_beyond_the_bound_are_counted_and_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "MAX_LINES", 2)
    view = do(DictView(REPORTS), counting(("a", 1), ("b", 1), ("c", 7)), counting(("a", 1), ("d", 2)))
    (found,) = collected(view)
    assert (found.lines, found.left_out) == (2, 9)
    assert sorted(lines(view, SUBJECT)) == [(("a",), 2), (("b",), 1)]


def test_no_more_reports_grow_at_one_time_than_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "MAX_GROUPS", 1)
    other = SUBJECT._replace(domain="other.test")
    view = do(DictView(REPORTS), counting(("a", 1)), counting(("a", 1), subject=other))
    assert [one.subject for one in collected(view)] == [SUBJECT]
    do(view, FinishReport(*SUBJECT, "sent", ()), counting(("a", 1), subject=other))
    assert [one.subject for one in collected(view)] == [other]


def test_a_report_ends_once_and_leaves_nothing_but_that_it_was_sent() -> None:
    view = do(
        DictView(REPORTS), counting(("a", 2), ("b", 3)), FinishReport(*SUBJECT, "sent", ("d@sender.test",)), at_ms=77
    )
    assert list(collected(view)) == []
    assert lines(view, SUBJECT) == []
    (found,) = sent(view)
    assert (found.subject, found.at_ms, found.outcome, found.results) == (SUBJECT, 77, "sent", 5)
    with pytest.raises(NoSuchItem):
        do(view, FinishReport(*SUBJECT, "sent", ()))


def test_a_report_that_comes_again_is_taken_once() -> None:
    view = do(DictView(REPORTS), taking(1))
    with pytest.raises(NameTaken):
        do(view, taking(2, report_id="1"))
    do(view, taking(3, report_id="1", organisation="others"))
    assert [one.organisation for one in received(view)] == ["others", "them"]


def test_the_oldest_goes_when_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "MAX_KEPT", 3)
    view = do(DictView(REPORTS), *map(taking, range(1, 6)))
    assert [one.report_id for one in received(view)] == ["5", "4", "3"]
    do(view, taking(6, report_id="1"))
    assert [one.report_id for one in received(view)] == ["1", "5", "4"]


def test_who_reports_is_kept() -> None:
    assert not settings(DictView(REPORTS)).sender
    view = do(DictView(REPORTS), SetReporting("d@example.test", "Example", ("d@example.test",)))
    assert settings(view) == ("d@example.test", "Example", ("d@example.test",))


def test_evolve_is_total() -> None:
    view = DictView(REPORTS)
    stamp = Stamp(1, 1, 0, bytes(16), By("node", b"", "test"), "test", 3)
    evolve(view, reports.ReportFinished(*SUBJECT, "sent", ()), stamp)
    first = reports.ReportReceived(b"i" * 16, -5, "arf", "", "", "", 0, 0, "", b"")
    evolve(view, first, stamp)
    evolve(view, first, stamp)
    assert (sent(view), len(received(view))) == ([], 1)
