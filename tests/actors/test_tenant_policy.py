"""A tenant's mail policy: what may be set, what an event leaves, and the mark of extensions."""

from __future__ import annotations

import pytest

from actors.errors import NotAllowed
from actors.tenant import CreateTenant
from actors.tenant_policy import (
    SETTINGS,
    MailPolicySet,
    SetMailPolicy,
    Value,
    decide,
    evolve,
    extension_mark,
    settings,
)
from eventlog.views import DictView
from nodes.policy.tenants import MailPolicy
from tests.actors.stage import Stage


@pytest.fixture
def example(stage: Stage) -> Stage:
    stage.do(CreateTenant(stage.stream, "example"))
    return stage


def test_the_last_word_on_each_setting_counts_until_it_is_reset(example: Stage) -> None:
    example.do(SetMailPolicy((("greylisting", "on"), ("message_bytes", 5000))))
    example.do(SetMailPolicy((("message_bytes", 6000),)))
    assert settings(example.view) == {"greylisting": "on", "message_bytes": 6000}
    example.do(SetMailPolicy((("spam", "refuse"),), reset=("greylisting", "message_bytes")))
    assert settings(example.view) == {"spam": "refuse"}
    example.do(SetMailPolicy(reset=("spam",)))
    assert settings(example.view) == {}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("nonsense", "on"),
        ("greylisting", "yes"),
        ("greylisting", 1),
        ("message_bytes", 1023),
        ("message_bytes", 2**40 + 1),
        ("message_bytes", "5000"),
        ("message_bytes", True),
        ("extensions", "@"),
        ("extensions", "++"),
    ],
)
def test_what_can_not_be_is_refused(example: Stage, name: str, value: Value) -> None:
    with pytest.raises(NotAllowed, match=name):
        example.decide(SetMailPolicy((("spam", "junk"), (name, value))))


def test_a_change_of_nothing_is_none(example: Stage) -> None:
    with pytest.raises(NotAllowed):
        example.decide(SetMailPolicy())
    with pytest.raises(NotAllowed, match="nonsense"):
        example.decide(SetMailPolicy(reset=("nonsense",)))


def test_a_setting_of_a_later_version_is_kept_and_can_be_reset() -> None:
    view = DictView(b"t" * 16).at(1)
    evolve(view, MailPolicySet((("of_tomorrow", "x"),), ()))
    assert settings(view) == {"of_tomorrow": "x"}
    evolve(view, decide(view, SetMailPolicy(reset=("of_tomorrow",))))
    assert settings(view) == {}


def test_extensions_stand_behind_a_plus_sign_unless_something_else_is_set(example: Stage) -> None:
    assert extension_mark(example.view) == "+"
    example.do(SetMailPolicy((("extensions", "-"),)))
    assert extension_mark(example.view) == "-"
    example.do(SetMailPolicy((("extensions", "off"),)))
    assert extension_mark(example.view) == ""


def test_each_setting_has_a_field_at_the_nodes() -> None:
    assert set(SETTINGS) == set(MailPolicy._fields)
