"""What the oracle of the simulation takes for a majority."""

from types import SimpleNamespace
from typing import Any

from chaos.simulation.clock import Clock
from chaos.simulation.oracle import EntryOf, Oracle, Seen, Written
from chaos.simulation.trace import Trace
from eventlog.members import Configuration, Member


def test_an_entry_is_judged_by_the_configuration_it_was_written_in_and_those_behind_it() -> None:
    """Seed 4738 of an earlier day: n3 removed n1, committed that alone, and made n9 a voter, in one step."""
    seen = Seen(frozenset({"n1", "n3"}))
    seen.configurations += [Written(152, b"a", frozenset({"n3"})), Written(153, b"b", frozenset({"n3", "n9"}))]
    assert seen.voters_since(151) == [{"n1", "n3"}, {"n3"}, {"n3", "n9"}]
    assert seen.voters_since(152) == [{"n3"}, {"n3", "n9"}]
    assert seen.voters_since(160) == [{"n3", "n9"}]


def test_what_a_leader_counted_by_members_that_only_its_memory_has_is_no_fault() -> None:
    """Seed 3025 of an earlier day: n4 made n10 a voter, told it what was committed so, and crashed in the write."""
    oracle = Oracle(Trace(Clock()), ("n3", "n4"))
    members = tuple(Member(name, f"{name}.test:1", True) for name in ("n3", "n4", "n10"))
    oracle.leading[14] = SimpleNamespace(config=Configuration(267, members))
    told: Any = SimpleNamespace(name="n10", raft=SimpleNamespace(term=14))
    assert list(oracle._electorates(told, EntryOf(14, b""), 262)) == [{"n3", "n4"}, {"n3", "n4", "n10"}]
    assert list(oracle._electorates(told, EntryOf(13, b""), 262)) == [{"n3", "n4"}, {"n3", "n4", "n10"}]
    told.raft.term = 15
    assert list(oracle._electorates(told, EntryOf(13, b""), 262)) == [{"n3", "n4"}]
