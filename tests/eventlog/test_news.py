"""When the peers of a leader hear what is committed: with the next entries where these follow soon, and never too late.

docs/ADR/0045-commit-latency.md. The engine is the real one, and time moves only when a test says so.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import tests.eventlog.engines
from tests.eventlog.engines import TIMING, Cell, cell

NEWS_S = 0.005
SOON_S = 0.001


@pytest.fixture
def three(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cell]:
    """n1 leads, and has just been asked for a record soon after another was committed; n2 and n3 have it."""
    monkeypatch.setattr(tests.eventlog.engines, "TIMING", TIMING._replace(news_s=NEWS_S))
    with cell(tmp_path) as made:
        made.elect("n1")
        made.heartbeat()
        yield made


def exchange(made: Cell, *peers: str) -> None:
    """One turn: the leader says what it has to say, these hear it, and answer."""
    made.tick("n1")
    made.carry(lambda letter: letter.target in peers)
    made.tick(*peers)
    made.carry(lambda letter: letter.source in peers)


def commit_soon_after_another(made: Cell, asked_by: str | None = None) -> None:
    for _ in range(2):
        made.pass_time(SOON_S)
        index = made.propose("n1")
        if asked_by is not None:
            made["n1"].asked_by(asked_by, index)
        exchange(made, "n2", "n3")
    made.tick("n1")  # learns that the second is committed


def sent(made: Cell) -> list[tuple[str, dict[str, Any]]]:
    mail, made.mail = made.mail, []
    return [(letter.target, letter.message) for letter in mail]


def test_where_records_follow_each_other_soon_what_is_committed_goes_with_the_next(three: Cell) -> None:
    commit_soon_after_another(three)
    assert three["n1"].commit_index == three["n1"]._journal.last_index
    assert sent(three) == []
    three.propose("n1")
    three.tick("n1")
    assert [(peer, len(m["entries"]), m["commit_index"]) for peer, m in sent(three)] == [
        ("n2", 1, three["n1"].commit_index),
        ("n3", 1, three["n1"].commit_index),
    ]


def test_who_waits_for_a_record_hears_at_once_that_it_is_committed(three: Cell) -> None:
    commit_soon_after_another(three, asked_by="n3")
    assert [(peer, m["commit_index"]) for peer, m in sent(three)] == [("n3", three["n1"].commit_index)]


def test_when_nothing_follows_what_is_committed_is_told_before_long(three: Cell) -> None:
    commit_soon_after_another(three)
    assert three["n1"].next_deadline() <= three.now + NEWS_S
    three.now = three["n1"].next_deadline()
    three.tick("n1")
    assert [(peer, m["commit_index"]) for peer, m in sent(three)] == [
        ("n2", three["n1"].commit_index),
        ("n3", three["n1"].commit_index),
    ]
    assert three["n1"].next_deadline() > three.now + NEWS_S, "nothing is left to tell"


def test_a_record_long_after_the_one_before_is_told_at_once(three: Cell) -> None:
    three.pass_time(10 * NEWS_S)
    three.propose("n1")
    exchange(three, "n2", "n3")
    three.tick("n1")
    assert {peer for peer, _ in sent(three)} == {"n2", "n3"}


def test_a_peer_that_can_not_be_reached_does_not_keep_the_leader_busy(three: Cell) -> None:
    three["n1"].disconnected("n3")
    commit_soon_after_another(three)
    three.now = three["n1"].next_deadline()
    three.tick("n1")
    assert {peer for peer, _ in sent(three)} == {"n2"}
    assert three["n1"].next_deadline() > three.now


def test_news_are_not_answered_and_heartbeats_are(three: Cell) -> None:
    three.pass_time(10 * NEWS_S)
    three.propose("n1")
    exchange(three, "n2", "n3")
    exchange(three, "n2")
    assert three["n2"].commit_index == three["n1"].commit_index
    assert sent(three) == []
    three.pass_time(TIMING.heartbeat_s)
    three.tick("n1")
    three.carry()
    three.tick("n2", "n3")
    assert [message["success"] for _, message in sent(three)] == [True, True]


def test_news_to_a_node_that_lacks_entries_are_answered(three: Cell) -> None:
    three.pass_time(10 * NEWS_S)
    three.propose("n1")
    three.tick("n1")
    three.carry(lambda letter: letter.target == "n2")  # what goes to n3 is lost
    three.tick("n2")
    three.carry()
    exchange(three, "n3")
    three.tick("n1")
    assert [(peer, len(message["entries"])) for peer, message in sent(three)] == [("n3", 1)]


def test_what_a_leader_of_an_earlier_version_sends_is_answered(three: Cell) -> None:
    three.pass_time(10 * NEWS_S)
    three.propose("n1")
    exchange(three, "n2", "n3")
    three.tick("n1")
    assert not any(letter.message["answered"] for letter in three.mail)
    for letter in three.mail:
        letter.message.pop("answered", None)  # both have the same
    three.carry()
    three.tick("n2", "n3")
    assert [peer for peer, _ in sent(three)] == ["n1", "n1"]
