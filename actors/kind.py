"""What every actor kind is made of: commands, facts (events) and their codec.

A fact is a frozen dataclass; on the log it is its type, its version and its fields packed by position as one
MessagePack list. Fields are never reordered or removed: a changed shape is a new VERSION with an upcaster from the
one before, or fields with defaults at the end (GREW), which a cell of a lower feature level is not given. Encoding and
decoding are on the path of each message, so field getters are kept by class.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from operator import attrgetter
from typing import Any, ClassVar, TypeVar

import msgpack

from eventlog.errors import UnknownEvent

Values = tuple[Any, ...]
Upcaster = Callable[[Values], Values]

_pack = msgpack.Packer(autoreset=True).pack  # made once: making one costs more than packing a fact
_facts: dict[str, type[Fact]] = {}
_getters: dict[type[Fact], Callable[[Any], Any]] = {}
_upcasters: dict[tuple[str, int], Upcaster] = {}
_F = TypeVar("_F", bound=Upcaster)


class UnknownEventType(UnknownEvent):
    """The log holds an event type, or a version of one, that this program does not know."""

    code = "unknown_event"


class Command:
    """A request to one actor. Subclasses are frozen dataclasses.

    PIPELINES: it commutes with its like and does not wait for the commands before it.
    SLICED: its kind's `slices` may cut it into several records.
    ON_REPLICA: it may be carried out on what has its home in another cell.
    """

    __slots__ = ()
    PIPELINES: ClassVar[bool] = False
    SLICED: ClassVar[bool] = False
    ON_REPLICA: ClassVar[bool] = False


class Fact:
    """An event: what happened, in the past tense. Subclasses are frozen dataclasses of MessagePack values.

    SINCE: the feature level of the cell from which on it may be written.
    REDACTABLE: fields that may be redacted (actors/redaction.py); they decide nothing when the event is folded.
    GREW: fields added at the end, as (feature level, the first of them), oldest first; each is a version. They have
    defaults, which stand for them where an earlier version was written: it is what a cell of a lower level gets.
    """

    __slots__ = ()
    TYPE: ClassVar[str] = ""
    VERSION: ClassVar[int] = 1
    SINCE: ClassVar[int] = 1
    REDACTABLE: ClassVar[tuple[str, ...]] = ()
    GREW: ClassVar[tuple[tuple[int, str], ...]] = ()

    def __init_subclass__(cls) -> None:
        """Make the type known to `decode`; a name belongs to one module for ever."""
        name = cls.__name__
        known = _facts.get(name)
        if known is not None and known.__module__ != cls.__module__:
            raise TypeError(f"event type {name} is defined in {known.__module__} and in {cls.__module__}")
        cls.TYPE = name
        if cls.GREW:
            cls.VERSION = 1 + len(cls.GREW)
        _facts[name] = cls


def encode(fact: Fact) -> bytes:
    """The fact's fields as a MessagePack list, in the order in which they are declared."""
    getter = _getters.get(type(fact)) or _make_getter(type(fact))
    return bytes(_pack(getter(fact)))


def encode_for(fact: Fact, level: int) -> tuple[int, bytes]:
    """The version of the fact that a cell of this feature level reads, and its fields up to those of that version."""
    for version, (since, name) in enumerate(fact.GREW, 1):
        if since > level:
            names = [field.name for field in fields(fact)]  # type: ignore[arg-type]
            values = tuple(getattr(fact, one) for one in names[: names.index(name)])
            return version, bytes(_pack(values))
    return fact.VERSION, encode(fact)


def known_types() -> frozenset[str]:
    """The event types that this program can write; complete once actors.registry is imported."""
    return frozenset(_facts)


def decode(type_: str, version: int, data: bytes) -> Fact:
    """The fact behind an event's type, version and data, brought up to the present version.

    Raises UnknownEventType for a type or version written by a later program.
    """
    cls = _facts.get(type_)
    if cls is None:
        raise UnknownEventType(type_)
    values: Values = msgpack.unpackb(data, use_list=False)
    if version != cls.VERSION:
        values = _upcast(cls, version, values)
    return cls(*values)


def upcasts(type_: str, version: int) -> Callable[[_F], _F]:
    """Register the decorated function as the way from `version` of `type_` to the next version."""

    def register(upcaster: _F) -> _F:
        _upcasters[type_, version] = upcaster
        return upcaster

    return register


def _upcast(cls: type[Fact], version: int, values: Values) -> Values:
    if version > cls.VERSION:
        raise UnknownEventType(f"{cls.TYPE} version {version}")
    if cls.GREW:
        return values
    for step in range(version, cls.VERSION):
        upcaster = _upcasters.get((cls.TYPE, step))
        if upcaster is None:
            raise UnknownEventType(f"{cls.TYPE} version {step}")
        values = upcaster(values)
    return values


def _make_getter(cls: type[Fact]) -> Callable[[Any], Any]:
    names = [field.name for field in fields(cls)]  # type: ignore[arg-type]
    getter: Callable[[Any], Any] = attrgetter(*names) if len(names) > 1 else _few(names)
    _getters[cls] = getter
    return getter


def _few(names: list[str]) -> Callable[[Any], Values]:
    # attrgetter of one name gives the bare value, of none is an error: both must still be a sequence.
    return lambda fact: tuple(getattr(fact, name) for name in names)
