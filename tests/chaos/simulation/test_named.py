"""What seeds have found, as scripts: a seed means something else after the next draw, a script stays what it is.

Each is a golden script of the engine (tests/eventlog/scripts), where its trace is kept. Here it is run on the engine
with a departure, and safety breaks, or something else that it names happens that must not.
"""

from pathlib import Path
from typing import Any

import pytest
from pysyncobj.node import Node

from chaos.simulation.departures import DEPARTURES, FollowsCommittedMembers
from eventlog.journal import Entry
from eventlog.raft import Raft
from tests.eventlog.safety import Safety, SafetyBroken
from tests.eventlog.script import ScriptError, run

SCRIPTS = Path(__file__).parents[2] / "eventlog" / "scripts"

UNSAFE = {
    "counted-votes": ("duplicated-vote", "election safety: n1 leads in term 1 with 2 of 5 votes"),
    "truncate-on-overlap": (
        "committed-entry-contradicted",
        "state-machine safety: n1 and n2 committed different entries 2",
    ),
    "commit-unverified": (
        "leader-crashes-before-it-sends",
        "state-machine safety: n2 and n1 committed different entries 2",
    ),
    "commit-old-term": ("figure-8-d", "state-machine safety: n1 and n3 committed different entries 2"),
    "vote-for-anybody": ("figure-8-e", "state-machine safety: n1 and n2 committed different entries 2"),
    "members-before-noop": ("members-contradicted", "state-machine safety: n3 and n1 committed different entries 3"),
    "members-at-once": ("members-halved", "state-machine safety: n1 and n3 committed different entries 3"),
    "members-kept": ("members-truncated", "state-machine safety: n3 and n1 committed different entries 4"),
}


SAYS = {  # a line of the trace that says what must not be
    "next-index-lowered": ("late-append", '  n1->n2 append term=1 prev=2/1 commit=3 [3/1 "b"]'),
    "stale-replies": ("stale-reply", "  n1 commit 3 -> 4"),
    "no-pre-vote": (
        "pre-vote-refused-by-sticky-peers",
        "  n3 role follower -> candidate, term 1 -> 2, vote n1 -> n3, leader n1 -> nobody",
    ),
    "no-stickiness": (
        "pre-vote-refused-by-sticky-peers",
        "  n3 role follower -> candidate, term 1 -> 2, vote n1 -> n3",
    ),
    "read-without-round": ("read-of-a-deposed-leader", "  n1 serves read 1 at 1"),
    "read-before-noop": ("read-before-noop", "  n2 serves read 1 at 1"),
}


def script(name: str) -> str:
    return (SCRIPTS / f"{name}.txt").read_text()


@pytest.mark.parametrize("departure", UNSAFE)
def test_safety_breaks_with_the_departure(departure: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name, what = UNSAFE[departure]
    with pytest.raises(SafetyBroken) as broken:
        run(script(name), tmp_path, monkeypatch, DEPARTURES[departure].raft, Safety())
    assert str(broken.value) == what


@pytest.mark.parametrize("departure", SAYS)
def test_what_must_not_be_happens_with_the_departure(
    departure: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, line = SAYS[departure]
    assert line not in script(name).splitlines()
    assert line in run(script(name), tmp_path, monkeypatch, DEPARTURES[departure].raft).splitlines()


def test_a_leader_of_the_past_is_left_without_an_answer_with_the_departure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ScriptError, match="nothing waits on n2->n1"):
        run(script("paused-leader-comes-back"), tmp_path, monkeypatch, DEPARTURES["stale-append-unanswered"].raft)


@pytest.mark.parametrize("path", sorted(SCRIPTS.glob("*.txt")), ids=lambda path: path.stem)
def test_safety_holds_in_every_script_without_one(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(path.read_text(), tmp_path, monkeypatch, Raft, Safety())


# -- members-on-commit: another guard covers it ---------------------------------------------------------------------


class AndHearsOfCommitsLate(FollowsCommittedMembers):
    """The commit index comes with a heartbeat alone, not with entries."""

    def _send_entries(self, node: Node, entries: list[Entry], *, answered: bool = True) -> None:
        super()._send_entries(node, entries, answered=answered)
        if entries:
            self._outbox.messages[-1][1]["commit_index"] = 0


@pytest.mark.parametrize(
    ("raft_class", "safe"), [(Raft, True), (FollowsCommittedMembers, True), (AndHearsOfCommitsLate, False)]
)
def test_members_in_force_on_commit_are_safe_as_long_as_entries_bring_the_commit_index(
    raft_class: type[Raft], safe: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody has a second change who has not heard that the first is committed: see docs/ADR/0006-simulation.md."""
    found: Any = None
    try:
        run(script("members-in-force"), tmp_path, monkeypatch, raft_class, Safety())
    except SafetyBroken as error:
        found = error
    assert (found is None) is safe, found


# -- findings in the program ----------------------------------------------------------------------------------------


class NeverStandsOnceItRemovedItself(Raft):
    """As it was when a seed found the cell standing still."""

    def _look_back(self) -> None:
        super()._look_back()
        self._may_stand = self._is_voter


def test_a_leader_that_removed_itself_and_went_down_is_elected_once_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elected = "  n1 role candidate -> leader, leader nobody -> n1"
    text = script("members-leader-removes-itself")
    assert elected in text.splitlines()
    assert elected not in run(text, tmp_path, monkeypatch, NeverStandsOnceItRemovedItself).splitlines()
