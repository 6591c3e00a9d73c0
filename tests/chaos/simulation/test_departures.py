"""A simulator that finds nothing proves nothing: a mistake that is put back is found, by a seed that is clean else.

Seeds lose their meaning when draws change; what keeps it are the scripts of `test_named`.
How many seeds find each is told in docs/ADR/0006-simulation.md; to measure: mailraft chaos simulate --departure NAME.
"""

import pytest

from chaos.simulation.departures import DEPARTURES
from chaos.simulation.run import USUAL, run_seed
from chaos.simulation.seeds import shrink

FOUND_BY = {
    "next-index-lowered": ("mixed", 1, "nothing is sent twice"),
    "truncate-on-overlap": ("mixed", 2, "committed entries stay"),
    "commit-unverified": ("mixed", 1, "state-machine safety"),
    "stale-replies": ("replies", 5, "the cell comes together again"),
    "stale-append-unanswered": ("mixed", 1, "the cell comes together again"),
    "counted-votes": ("mixed", 2, "a leader has the votes of a majority"),
    "unsynced": ("mixed", 2, "what was synced is durable"),
    "undone": ("mixed", 2, "what was synced is durable"),
    "ahead-unsynced": ("mixed", 6, "what was synced is durable"),
    "ahead-reused": ("mixed", 4, "what was synced is durable"),
    "no-pre-vote": ("mixed", 1, "a healthy leader stays"),
    "no-stickiness": ("mixed", 4, "a healthy leader stays"),
    "votes-twice": ("mixed", 1, "one vote a term"),
    "append-unchecked": ("mixed", 5, "log matching"),
    "answered-early": ("mixed", 1, "acknowledged is committed"),
    "commit-old-term": ("mixed", 17, "committed is for ever"),
    "vote-for-anybody": ("mixed", 4, "leader completeness"),
    "members-before-noop": ("members", 6, "committed is for ever"),
    "members-at-once": ("members", 8, "a change of the members is made once"),
    "members-again": ("members", 20, "a change of the members is made once"),
    "members-kept": ("members", 3, "the newest configuration is in force"),
    "members-on-commit": ("members", 3, "the newest configuration is in force"),
    "read-without-round": ("mixed", 15, "a read misses no acknowledged write"),
    "read-before-noop": ("mixed", 8, "a read misses no acknowledged write"),
}


PROMISES = {  # what the oracle looks at after each step, and the two ends of a promise to a client
    "log matching",
    "one vote a term",
    "a leader has the votes of a majority",
    "leader completeness",
    "committed entries stay",
    "committed is for ever",
    "state-machine safety",
    "the newest configuration is in force",
    "a change of the members is made once",
    "acknowledged is committed",
    "what was synced is durable",
    "a read misses no acknowledged write",
    "the cell comes together again",
    "a healthy leader stays",
    "nothing is sent twice",
}


def test_each_promise_is_seen_broken_by_a_departure() -> None:
    assert {rule for _, _, rule in FOUND_BY.values()} == PROMISES


def test_each_departure_has_a_seed_that_finds_it() -> None:
    assert FOUND_BY.keys() == DEPARTURES.keys()


@pytest.mark.parametrize("name", FOUND_BY)
def test_a_departure_is_found(name: str) -> None:
    profile, seed, rule = FOUND_BY[name]
    found = run_seed(seed, USUAL._replace(departure=name, profile=profile))
    assert found.rule == rule, found.failure
    assert found.trace[-1].endswith(found.failure)


def test_a_failure_is_narrowed_down_to_the_faults_that_it_needs() -> None:
    profile, seed, _ = FOUND_BY["no-pre-vote"]
    departure = USUAL._replace(departure="no-pre-vote", seconds=2.0, profile=profile)
    failed = run_seed(seed, departure)
    smallest = shrink(failed, departure)
    assert smallest.rule == failed.rule == "a healthy leader stays"
    assert len(smallest.faults) < len(failed.faults)
