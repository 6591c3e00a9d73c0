"""Recovery times are measured from each kill to the next 250 of an attempt that began after it."""

import pytest

from chaos.faults import kill_schedule
from chaos.history import History, Kill, Operation, Outcome, percentile, recovery_times, summary
from chaos.messages import dot_stuffed, make_message


def history(kills: list[float], attempts: list[tuple[float, float, Outcome]]) -> History:
    return History(
        operations=[
            Operation(i, "smtp-n1", "n1", "smtp", "deliver", "", {}, began_s, ended_s, outcome, "")
            for i, (began_s, ended_s, outcome) in enumerate(attempts)
        ],
        kills=[Kill(at_s, "n1", 1) for at_s in kills],
    )


def test_an_answer_to_an_attempt_from_before_the_kill_is_no_recovery() -> None:
    past = history([10.0], [(9.9, 10.1, Outcome.ACKNOWLEDGED), (10.5, 11.5, Outcome.ACKNOWLEDGED)])
    assert recovery_times(past) == [1.5]


def test_refused_and_unknown_attempts_are_no_recovery() -> None:
    past = history([1.0], [(1.1, 1.2, Outcome.REFUSED), (1.1, 1.3, Outcome.UNKNOWN)])
    assert recovery_times(past) == [None]
    assert summary(recovery_times(past)) == {"kills": 1, "never": 1}


def test_the_summary_gives_nearest_rank_percentiles() -> None:
    assert summary([float(n) for n in range(1, 21)]) == {
        "kills": 20,
        "never": 0,
        "median_s": 10.0,
        "p95_s": 19.0,
        "max_s": 20.0,
    }
    assert percentile([3.0], 95) == 3.0


def test_a_seed_gives_the_same_kills_and_the_same_messages() -> None:
    first, again = kill_schedule(7, 4.0), kill_schedule(7, 4.0)
    assert [next(first) for _ in range(5)] == [next(again) for _ in range(5)]
    accounts = ("a@chaos.test", "b@chaos.test")
    assert make_message(7, 3, accounts) == make_message(7, 3, accounts)
    assert make_message(7, 3, accounts).data != make_message(8, 3, accounts).data


def test_workload_messages_are_distinct_and_some_are_larger_than_256_kib() -> None:
    messages = [make_message(7, number, ("a@chaos.test",)) for number in range(300)]
    assert len({message.identity for message in messages}) == 300
    assert max(len(message.data) for message in messages) > 256 * 1024


@pytest.mark.parametrize(
    ("data", "wire"),
    [
        (b"a\r\n", b"a\r\n.\r\n"),
        (b".\r\n", b"..\r\n.\r\n"),
        (b"a\r\n.b\r\n..\r\n", b"a\r\n..b\r\n...\r\n.\r\n"),
    ],
)
def test_lines_that_start_with_a_dot_get_one_more(data: bytes, wire: bytes) -> None:
    assert dot_stuffed(data) == wire
