"""What `mailraft cluster health` makes of nodes that do not answer."""

from __future__ import annotations

from typing import Any

import pytest

from cli.cluster_health import with_silent


def report(status: str) -> dict[str, Any]:
    return {"status": status, "means": "", "problems": []}


@pytest.mark.parametrize(("others_say", "shown"), [("healthy", "degraded"), ("critical", "critical")])
def test_a_node_that_does_not_answer_is_a_problem_before_the_others_miss_it(others_say: str, shown: str) -> None:
    found = with_silent(report(others_say), {"n2": "nothing listens there"})
    assert (found["status"], found["problems"]) == (shown, ["n2: it does not answer: nothing listens there"])


def test_where_all_answer_it_is_what_they_say() -> None:
    assert with_silent(report("healthy"), {}) == {**report("healthy"), "no_answer": {}}
