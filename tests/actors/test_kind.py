"""The codec of facts, and the registry of kinds."""

import re
from dataclasses import dataclass
from typing import ClassVar, get_type_hints

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.kind import Command, Fact, UnknownEventType, decode, encode, encode_for, upcasts
from actors.mailbox import MessageDelivered
from actors.registry import KINDS, fold_event, kind_of
from eventlog.record import Event, Stamp
from eventlog.views import DictView
from tests.actors.stage import START_MS

ALL_FACTS = [fact for kind in KINDS.values() for fact in kind.facts]


@dataclass(frozen=True, slots=True)
class NothingHappened(Fact):
    pass


@dataclass(frozen=True, slots=True)
class OneThingHappened(Fact):
    thing: str


@dataclass(frozen=True, slots=True)
class PlaceChanged(Fact):
    """Version 1 had the name only, version 2 a country, version 3 has both and the year."""

    VERSION: ClassVar[int] = 3
    name: str
    country: str
    year: int


@upcasts("PlaceChanged", 1)
def _from_1(values: tuple[str]) -> tuple[str, str]:
    return (*values, "nowhere")


@upcasts("PlaceChanged", 2)
def _from_2(values: tuple[str, str]) -> tuple[str, str, int]:
    return (*values, 1970)


@dataclass(frozen=True, slots=True)
class RoomGrew(Fact):
    """It began with the name; feature level 5 added the size, level 7 the doors and windows."""

    GREW: ClassVar[tuple[tuple[int, str], ...]] = ((5, "size"), (7, "doors"))
    name: str
    size: int = 0
    doors: int = 1
    windows: int = 0


@pytest.mark.parametrize(
    ("level", "version", "values"),
    [(4, 1, ["a"]), (5, 2, ["a", 9]), (6, 2, ["a", 9]), (7, 3, ["a", 9, 2, 3]), (8, 3, ["a", 9, 2, 3])],
)
def test_a_cell_is_given_the_fields_that_its_level_knows(level: int, version: int, values: list[object]) -> None:
    told = encode_for(RoomGrew("a", 9, 2, 3), level)
    assert (told[0], msgpack.unpackb(told[1])) == (version, values)


def test_fields_that_an_earlier_version_lacked_have_their_defaults() -> None:
    assert decode("RoomGrew", 1, msgpack.packb(["a"])) == RoomGrew("a")
    assert decode("RoomGrew", 2, msgpack.packb(["a", 9])) == RoomGrew("a", 9)
    assert decode("RoomGrew", 3, encode(RoomGrew("a", 9, 2, 3))) == RoomGrew("a", 9, 2, 3)
    with pytest.raises(UnknownEventType):
        decode("RoomGrew", 4, msgpack.packb(["a", 9, 2, 3]))


@pytest.mark.parametrize("fact", [NothingHappened(), OneThingHappened("x"), PlaceChanged("a", "b", 3)])
def test_a_fact_comes_back_as_it_was(fact: Fact) -> None:
    assert decode(fact.TYPE, fact.VERSION, encode(fact)) == fact


def test_a_fact_is_its_fields_in_order() -> None:
    assert msgpack.unpackb(encode(PlaceChanged("a", "b", 3))) == ["a", "b", 3]


@pytest.mark.parametrize(("version", "values"), [(1, ["a"]), (2, ["a", "nowhere"]), (3, ["a", "nowhere", 1970])])
def test_an_older_version_is_brought_up_to_date(version: int, values: list[object]) -> None:
    assert decode("PlaceChanged", version, msgpack.packb(values)) == PlaceChanged("a", "nowhere", 1970)


def test_a_later_version_is_unknown() -> None:
    with pytest.raises(UnknownEventType):
        decode("PlaceChanged", 4, encode(PlaceChanged("a", "b", 3)))


def test_a_version_without_a_way_up_is_unknown() -> None:
    with pytest.raises(UnknownEventType):
        decode("PlaceChanged", 0, encode(PlaceChanged("a", "b", 3)))


def test_a_type_that_no_kind_has_is_unknown() -> None:
    event = Event(bytes(16), bytes(16), "PigsFlew", 1, msgpack.packb([]), bytes(16))
    with pytest.raises(UnknownEventType):
        fold_event(DictView(bytes(16)), event, Stamp(1, START_MS, 1, bytes(16), None, "", 3))  # type: ignore[arg-type]


def test_a_type_has_one_home() -> None:
    with pytest.raises(TypeError, match="MessageDelivered"):
        type("MessageDelivered", (Fact,), {"__module__": "elsewhere"})


TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
TEXTS = st.lists(TEXT, max_size=4).map(tuple)
TIMES = st.integers(-(2**62), 2**62)


@given(
    st.builds(
        MessageDelivered,
        flags=TEXTS,
        header_message_id=st.none() | TEXT,
        references=TEXTS,
        size=st.integers(0, 2**40),
        internaldate_ms=TIMES,
        sent_ms=st.none() | TIMES,
        envelope_from=TEXT,
        envelope_to=TEXT,
        protocol=TEXT,
        verdicts=st.binary(max_size=20),
    )
)
def test_any_delivery_comes_back_as_it_was(fact: MessageDelivered) -> None:
    assert decode("MessageDelivered", MessageDelivered.VERSION, encode(fact)) == fact


def test_a_delivery_of_an_earlier_level_was_not_judged() -> None:
    fact = MessageDelivered(b"f", b"m", b"d", 1, 2, (), b"", None, (), None, "a", "b", "smtp", b"\x81\xa1a\xa1b")
    version, data = encode_for(fact, 2)
    found = decode("MessageDelivered", version, data)
    assert isinstance(found, MessageDelivered)
    assert (found.protocol, found.verdicts) == ("smtp", b"")


def test_text_that_is_not_unicode_is_refused_before_the_log() -> None:
    with pytest.raises(UnicodeEncodeError):
        encode(OneThingHappened("\udc80"))


def test_every_event_belongs_to_one_kind_and_is_named_in_the_past_tense() -> None:
    names = [fact.TYPE for fact in ALL_FACTS]
    assert len(set(names)) == len(names)
    assert all(re.search(r"(ed(Out)?|Set|Told)$", name) for name in names), names


@pytest.mark.parametrize("fact", ALL_FACTS, ids=lambda fact: fact.TYPE)
def test_events_hold_only_what_messagepack_gives_back_alike(fact: type[Fact]) -> None:
    for name, hint in get_type_hints(fact).items():
        assert "list" not in str(hint), f"{fact.TYPE}.{name}: sequences are tuples"
        assert "float" not in str(hint), f"{fact.TYPE}.{name}: no floats in a deterministic fold"


def test_every_command_is_decided_by_one_kind() -> None:
    for kind in KINDS.values():
        for command in kind.commands:
            assert issubclass(command, Command)
            assert kind_of(object.__new__(command)) is kind


def test_a_command_of_no_kind_is_an_error_of_the_program() -> None:
    with pytest.raises(TypeError):
        kind_of(Command())
