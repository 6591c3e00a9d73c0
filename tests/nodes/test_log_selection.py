"""What a selection of records must say to be one."""

from typing import Any, cast

import pytest

from nodes.log_selection import TYPES, selection

NO_SNAPSHOT = cast(Any, None)  # only an account is looked up


@pytest.mark.parametrize(
    "pattern", ["MessageDelivered", "Message*", "*Quota*", "MembersChanged", "BodyChunksCollected"]
)
def test_a_type_or_a_pattern_of_types_is_taken(pattern: str) -> None:
    assert selection(NO_SNAPSHOT, {"types": [pattern]}).types == (pattern,)


@pytest.mark.parametrize(
    ("pattern", "nearest"),
    [("MesageDelivered", "MessageDelivered"), ("flags", "FlagsChanged"), ("Password*Set*x", "PasswordSet")],
)
def test_a_type_that_there_is_not_is_refused_and_the_nearest_named(pattern: str, nearest: str) -> None:
    with pytest.raises(ValueError, match=r"types: this version knows no event type") as refused:
        selection(NO_SNAPSHOT, {"types": ["MessageDelivered", pattern]})
    assert f" {nearest}" in str(refused.value)


def test_one_that_is_like_none_is_refused_too() -> None:
    assert "Zzz" not in TYPES
    with pytest.raises(ValueError, match=r"knows no event type Zzz$"):
        selection(NO_SNAPSHOT, {"types": ["Zzz"]})
