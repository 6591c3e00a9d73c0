"""What holds for the whole cell: settings that every node obeys at once, and what its nodes were told anew.

One stream, found by name, written by administrators and by nodes. A setting is a key of the configuration, whose
meaning is the nodes' business; here it is a name and a value. Rows: s + key of a setting.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple, assert_never

from actors.errors import NoSuchSetting, TooLarge
from actors.kind import Command, Fact
from eventlog.record import Stamp, stream_id
from eventlog.views import View

SETTINGS = stream_id("settings", "root")
MOST_SETTINGS = 1000
MOST_CHARACTERS = 4096
MOST_CHANGES = 500

Value = str | int | bool | tuple[str, ...]  # a fraction stands as text: no floats in the fold


class Setting(NamedTuple):
    """A setting as it holds. Fields are only ever added at the end."""

    key: str
    value: Value
    set_ms: int


@dataclass(frozen=True, slots=True)
class ChangeSettings(Command):
    """All of it or nothing."""

    set: tuple[tuple[str, Value], ...]
    unset: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NoteReload(Command):
    """What a node was told anew, each key with the values before and after as they may be shown."""

    node: str
    changes: tuple[tuple[str, str, str], ...]
    restart: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ClusterSettingSet(Fact):
    SINCE: ClassVar[int] = 3
    key: str
    value: Value


@dataclass(frozen=True, slots=True)
class ClusterSettingRemoved(Fact):
    SINCE: ClassVar[int] = 3
    key: str


@dataclass(frozen=True, slots=True)
class NodeReloaded(Fact):
    """`restart`: keys that were changed too, and that the node obeys only when it is started again."""

    SINCE: ClassVar[int] = 3
    node: str
    changes: tuple[tuple[str, str, str], ...]
    restart: tuple[str, ...]


SettingsCommand = ChangeSettings | NoteReload
SettingsFact = ClusterSettingSet | ClusterSettingRemoved | NodeReloaded


def decide(view: View, command: SettingsCommand) -> tuple[SettingsFact, ...]:
    """Raises NoSuchSetting, TooLarge; a setting that is as it should be is no event."""
    match command:
        case ChangeSettings(wanted, unset):
            return (*_set(view, wanted), *_unset(view, unset))
        case NoteReload(node, changes, restart):
            return (NodeReloaded(node, changes[:MOST_CHANGES], restart[:MOST_CHANGES]),)
        case _:
            assert_never(command)


def _set(view: View, wanted: tuple[tuple[str, Value], ...]) -> tuple[SettingsFact, ...]:
    there = sum(1 for _ in view.range(b"s"))
    if there + len(wanted) > MOST_SETTINGS or any(len(str(value)) > MOST_CHARACTERS for _, value in wanted):
        raise TooLarge(f"at most {MOST_SETTINGS} settings of {MOST_CHARACTERS} characters")
    rows = {key: view.get(_key(key)) for key, _ in wanted}
    return tuple(ClusterSettingSet(key, value) for key, value in wanted if rows[key] is None or rows[key][0] != value)


def _unset(view: View, unset: tuple[str, ...]) -> tuple[SettingsFact, ...]:
    for key in unset:
        if view.get(_key(key)) is None:
            raise NoSuchSetting(f"{key} is not set for the cluster")
    return tuple(ClusterSettingRemoved(key) for key in unset)


def evolve(view: View, fact: SettingsFact, stamp: Stamp) -> None:
    """The last word on each key counts; that a node was told something anew is kept in the log alone."""
    match fact:
        case ClusterSettingSet(key, value):
            view.put(_key(key), (value, stamp.at_ms))
        case ClusterSettingRemoved(key):
            view.delete(_key(key))
        case NodeReloaded():
            pass
        case _:
            assert_never(fact)


def settings(view: View) -> list[Setting]:
    """All that are set, by key."""
    return [Setting(key[1:].decode(), *row) for key, row in view.range(b"s")]


def _key(key: str) -> bytes:
    return b"s" + key.encode()
