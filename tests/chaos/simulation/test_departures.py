"""A simulator that finds nothing proves nothing: a mistake that is put back is found, by a seed that is clean else.

How many seeds find each is told in docs/ADR/0006-simulation.md; to measure: mailraft chaos simulate --departure NAME.
"""

import pytest

from chaos.simulation.run import USUAL, run_seed
from chaos.simulation.seeds import shrink

FOUND_BY = {
    "next-index-lowered": (1, "nothing is sent twice"),
    "truncate-on-overlap": (2, "committed entries stay"),
    "commit-unverified": (1, "state-machine safety"),
    "stale-replies": (30, "committed is on a majority of disks"),
    "stale-append-unanswered": (1, "the cell comes together again"),
    "counted-votes": (3, "a leader has the votes of a majority"),
    "unsynced": (2, "what was synced is durable"),
    "no-pre-vote": (1, "a healthy leader stays"),
    "no-stickiness": (4, "a healthy leader stays"),
    "commit-old-term": (5, "committed is for ever"),
    "vote-for-anybody": (1, "leader completeness"),
    "members-on-commit": (11, "the cell comes together again"),
    "read-without-round": (14, "a read misses no acknowledged write"),
    "read-before-noop": (4, "a read misses no acknowledged write"),
}


@pytest.mark.parametrize("name", FOUND_BY)
def test_a_departure_is_found(name: str) -> None:
    seed, rule = FOUND_BY[name]
    found = run_seed(seed, USUAL._replace(departure=name))
    assert found.rule == rule, found.failure
    assert found.trace[-1].endswith(found.failure)


def test_a_failure_is_narrowed_down_to_the_faults_that_it_needs() -> None:
    departure = USUAL._replace(departure="no-pre-vote", seconds=2.0)
    failed = run_seed(FOUND_BY["no-pre-vote"][0], departure)
    smallest = shrink(failed, departure)
    assert smallest.rule == failed.rule == "a healthy leader stays"
    assert len(smallest.faults) < len(failed.faults)
