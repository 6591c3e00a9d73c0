"""Moments as people write them."""

import pytest

from nodes.moments import Moment, parse_moment, split_login

NOW_MS = 1_795_000_000_000  # 2026-11-18T10:26:40Z


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("#12345", Moment(12345, None)),
        ("-2h", Moment(None, NOW_MS - 7_200_000)),
        ("-90s", Moment(None, NOW_MS - 90_000)),
        ("-1.5d", Moment(None, NOW_MS - 129_600_000)),
        ("2026-11-01T10:00:00Z", Moment(None, 1_793_527_200_000)),
        ("2026-11-01T12:00:00+02:00", Moment(None, 1_793_527_200_000)),
        ("2026-11-01T10:00:00", Moment(None, 1_793_527_200_000)),
        ("20261101T100000Z", Moment(None, 1_793_527_200_000)),
        ("2026-11-01", Moment(None, 1_793_491_200_000)),
    ],
)
def test_a_moment_is_a_time_a_position_or_a_while_ago(text: str, moment: Moment) -> None:
    assert parse_moment(text, NOW_MS) == moment


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("#x", "a position is a whole number after #"),
        ("#-5", "a position is a whole number after #"),
        ("yesterday", "neither a time, nor a #position, nor a while ago"),
        ("-2y", "neither a time"),
        ("2026-13-01", "neither a time"),
        ("", "neither a time"),
        ("2030-01-01", "that is in the future"),
        ("1969-12-31", "that is before 1970"),
        ("-9999w", "that is before 1970"),
        ("-" + "9" * 40 + "w", "that is before 1970"),
        ("-" + "9" * 400 + "w", "too long for a moment"),
        ("#" + "9" * 5000, "too long for a moment"),
        ("-\u0663h", "neither a time"),
    ],
)
def test_anything_else_is_refused_with_the_reason(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_moment(text, NOW_MS)


@pytest.mark.parametrize(
    ("login", "expected"),
    [
        ("alice@example.test", ("alice@example.test", None)),
        ("alice@example.test@@-2h", ("alice@example.test", "-2h")),
        ("alice@example.test@@#12345", ("alice@example.test", "#12345")),
        ("alice@example.test@@20261101T100000Z", ("alice@example.test", "20261101T100000Z")),
        ("alice@example.test@@", ("alice@example.test", "")),
        ("a@@b@@-1d", ("a@@b", "-1d")),
    ],
)
def test_a_login_may_name_a_moment_behind_two_at_signs(login: str, expected: tuple[str, str | None]) -> None:
    assert split_login(login) == expected


def test_a_time_may_be_written_without_colons() -> None:
    assert parse_moment("20200101T100000Z", NOW_MS) == parse_moment("2020-01-01T10:00:00Z", NOW_MS)
