"""Recovery times are measured from each kill to the next 250 of an attempt that began after it."""

from pathlib import Path

import pytest

from chaos.checkers.log import NodeHead, NodeLog
from chaos.final import Final
from chaos.history import History, Kill, Operation, Outcome, percentile, recovery_times, summary
from chaos.history_file import FILE, HistoryError, read_run, write_run
from chaos.messages import dot_stuffed, make_message
from chaos.observation import Copy


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


def test_a_seed_gives_the_same_messages() -> None:
    accounts = ("a@chaos.test", "b@chaos.test")
    assert make_message(7, 3, accounts) == make_message(7, 3, accounts)
    assert make_message(7, 3, accounts).data != make_message(8, 3, accounts).data


def test_workload_messages_are_distinct_and_some_are_larger_than_256_kib() -> None:
    messages = [make_message(7, number, ("a@chaos.test",)) for number in range(300)]
    assert len({message.identity for message in messages}) == 300
    assert max(len(message.data) for message in messages) > 256 * 1024


def test_what_is_still_under_way_when_a_run_ends_has_an_unknown_outcome() -> None:
    past = History()
    ended = past.begin("imap-n1-1", "n1", "imap", "store", "a@b.test", uid=1)
    past.begin("imap-n1-2", "n1", "imap", "store", "a@b.test", uid=2)
    past.end(ended, Outcome.ACKNOWLEDGED, "OK")
    past.end_all("the run ended")
    assert [(one.number, one.outcome) for one in past.operations] == [(1, Outcome.ACKNOWLEDGED), (2, Outcome.UNKNOWN)]


def test_a_fault_ends_with_its_block_however_that_ends() -> None:
    past = History()
    with pytest.raises(ValueError, match="broken"), past.fault("partition", "n1 n2"):
        raise ValueError("broken")
    assert past.bands[0].ended_s is not None
    assert [moment.what for moment in past.timeline] == ["partition", "partition ends"]


def test_a_node_is_noted_when_what_it_is_changes() -> None:
    past = History()
    for state, term in (("up", 1), ("up", 1), ("leader", 2), ("leader", 2), ("down", 0)):
        past.saw("n1", state, term)
    assert [(seen.state, seen.term) for seen in past.sightings] == [("up", 1), ("leader", 2), ("down", 0)]
    assert [(moment.what, moment.detail) for moment in past.timeline] == [("elected", "term 2")]


def test_recovery_can_be_measured_from_any_moment() -> None:
    past = history([], [(1.0, 1.5, Outcome.ACKNOWLEDGED), (3.0, 3.5, Outcome.ACKNOWLEDGED)])
    assert recovery_times(past, [0.0, 2.0, 4.0]) == [1.5, 1.5, None]


@pytest.mark.parametrize(
    "line",
    [
        b"not json",
        b'{"kind": "nothing known"}',
        b'{"kind": "run", "format": 99, "scenario": "x", "seed": 1, "skipped": 0}',
        b'{"kind": "kill"}',
    ],
)
def test_a_file_that_is_no_history_is_refused_by_its_line(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / FILE
    write_run(path, "x", 1, History(), Final({}))
    path.write_bytes(path.read_bytes() + line + b"\n")
    with pytest.raises(HistoryError, match=":2: "):
        read_run(path)


def test_a_run_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    past = history([1.0], [(1.0, 1.5, Outcome.ACKNOWLEDGED)])
    past.note("æ", "n1")
    past.saw("n1", "up", 3, 9)
    past.end_fault(past.begin_fault("pause", "n1"))
    copies = [Copy("a-1", "ff", True, "INBOX", 7, 1, ("$Red", "\\Seen"))]
    final = Final(
        {"n1": {"a@b.test": copies, "b@b.test": []}},
        (NodeHead("n1", 9, "aa"),),
        (NodeLog("n1", True, None, "aa", True),),
    )
    write_run(tmp_path / FILE, "x", 1, past, final)
    assert read_run(tmp_path / FILE) == ("x", 1, past, final)


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
