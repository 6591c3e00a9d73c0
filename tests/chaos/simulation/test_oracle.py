"""What the oracle of the simulation takes for a majority."""

from chaos.simulation.oracle import Seen, Written


def test_an_entry_is_judged_by_the_configuration_it_was_written_in_and_those_behind_it() -> None:
    """Seed 4738 of an earlier day: n3 removed n1, committed that alone, and made n9 a voter, in one step."""
    seen = Seen(frozenset({"n1", "n3"}))
    seen.configurations += [Written(152, b"a", frozenset({"n3"})), Written(153, b"b", frozenset({"n3", "n9"}))]
    assert seen.voters_since(151) == [{"n1", "n3"}, {"n3"}, {"n3", "n9"}]
    assert seen.voters_since(152) == [{"n3"}, {"n3", "n9"}]
    assert seen.voters_since(160) == [{"n3", "n9"}]
