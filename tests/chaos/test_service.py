"""The longest time without a 250 is found, wherever it is."""

import pytest

from chaos.checkers.service import check_service, longest_silence_s
from chaos.history import History, Operation, Outcome


def history(*ended: tuple[float, Outcome]) -> History:
    return History(
        operations=[
            Operation(number, "smtp-n1", "n1", "smtp", "deliver", "", {}, at_s, at_s, outcome, "")
            for number, (at_s, outcome) in enumerate(ended)
        ]
    )


@pytest.mark.parametrize(
    ("answers_s", "silence"),
    [
        ((1.0, 2.0, 9.0, 10.0), (2.0, 7.0)),
        ((8.0, 9.0, 10.0), (0.0, 8.0)),
        ((1.0, 2.0), (2.0, 8.0)),
        ((), (0.0, 10.0)),
    ],
    ids=["between", "before the first", "after the last", "nothing at all"],
)
def test_the_longest_silence(answers_s: tuple[float, ...], silence: tuple[float, float]) -> None:
    answers = [(at_s, Outcome.ACKNOWLEDGED) for at_s in answers_s]
    past = history(*answers, (5.0, Outcome.UNKNOWN), (10.0, Outcome.REFUSED))
    assert longest_silence_s(past) == silence


def test_a_silence_that_is_too_long_is_a_violation() -> None:
    past = history((1.0, Outcome.ACKNOWLEDGED), (9.0, Outcome.ACKNOWLEDGED))
    assert check_service(past, 8.5) == []
    assert "8.0 s from 1.0 s on" in check_service(past, 7.5)[0].text
