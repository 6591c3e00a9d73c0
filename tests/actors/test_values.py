"""Commands and facts that are made with each message are values, as a frozen dataclass's are."""

from dataclasses import replace

import pytest

from actors.kind import decode, encode
from actors.mailbox import MessagesExpunged


def test_values_with_equal_fields_are_equal_and_hash_alike() -> None:
    fact = MessagesExpunged(b"f" * 16, (1, 2), False)
    same = decode("MessagesExpunged", 1, encode(fact))
    assert same == fact
    assert hash(same) == hash(fact)
    assert replace(fact, force=True) != fact


def test_a_value_has_no_fields_but_its_own() -> None:
    fact = MessagesExpunged(b"f" * 16, (1, 2), False)
    with pytest.raises(AttributeError):
        fact.reason = "spam"  # type: ignore[attr-defined]
