"""What `mailraft config` tells: every key with its value and where that came from, one key explained, two compared.

Made of a configuration that was loaded; a running node tells the same of its own over the admin API. Never a secret.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from nodes.config.node import NodeConfig
from nodes.config.rules import PROFILES
from nodes.config.sources import Loaded
from nodes.config.values import Section
from nodes.config.words import allowed, section_model, shown, shown_path, unit, variable_of

DEFAULT = "default"


class Setting(NamedTuple):
    """A key as it holds. `kind`: default, profile, file, variable, flag or cluster; `source` names the place."""

    name: str
    value: str
    kind: str
    source: str


class NoSuchKey(Exception):
    """There is no such key; `nearest` may be meant."""

    def __init__(self, name: str, nearest: str) -> None:
        super().__init__(f"there is no key {name}" + (f"; did you mean {nearest}?" if nearest else ""))


def settings(loaded: Loaded) -> list[Setting]:
    """Every key, in the order of the reference page."""
    return [_setting(loaded, section, key) for section, key in keys()]


def keys() -> Iterator[tuple[str, str]]:
    """Section and key of all that may be set."""
    for section in NodeConfig.model_fields:
        for key in section_model(section).model_fields:
            yield section, key


def _setting(loaded: Loaded, section: str, key: str) -> Setting:
    found = loaded.values.get(section, {}).get(key)
    value = text_of(loaded.config, section, key)
    if found is None:
        return Setting(f"{section}.{key}", value, DEFAULT, DEFAULT)
    return Setting(f"{section}.{key}", value, found.kind, found.source)


def text_of(config: NodeConfig, section: str, key: str) -> str:
    """The value of a key as people may see it."""
    value = getattr(getattr(config, section), key)
    if isinstance(value, Path):
        return shown_path(value)
    return shown(section, key, _plain(value))


def _plain(value: Any) -> Any:
    match value:
        case Section():
            return {key: _plain(one) for key, one in value}
        case tuple() | list():
            return [_plain(one) for one in value]
        case dict():
            return {key: _plain(one) for key, one in value.items()}
        case None | bool() | int() | float() | str():
            return value
        case _:
            return str(value)


def changes(before: NodeConfig, after: NodeConfig) -> list[tuple[str, str, str]]:
    """Each key whose value differs, with both values as they may be shown; a secret that differs is named alone."""
    return [
        (f"{section}.{key}", text_of(before, section, key), text_of(after, section, key))
        for section, key in keys()
        if getattr(getattr(before, section), key) != getattr(getattr(after, section), key)
    ]


def section_keys(name: str) -> Mapping[str, str] | None:
    """What each key of a section means, by its name; None where there is no such section."""
    section = name.strip().lower().strip("[]")
    found = {key: section_model(section).model_fields[key] for one, key in keys() if one == section}
    return {f"{section}.{key}": field.description or "" for key, field in found.items()} or None


def explanation(name: str) -> Mapping[str, str]:
    """Everything about a key, by title. Raises NoSuchKey."""
    section, _, key = name.strip().lower().partition(".")
    if (section, key) not in set(keys()):
        known = [".".join(one) for one in keys()]
        sections = [] if key else list(dict.fromkeys(one for one, _ in keys()))
        close = [one for one in known if one.endswith(f".{name}")]
        close = close or difflib.get_close_matches(name, [*known, *sections], n=1)
        raise NoSuchKey(name, close[0] if close else "")
    model = section_model(section)
    field = model.model_fields[key]
    required = field.is_required()
    found = {
        "key": f"{section}.{key}",
        "what": field.description or "",
        "may be": allowed(field),
        "unit": unit(key) or "none",
        "default": "none: it must be set" if required else _text_of_default(section, key, field.default),
        "reload": "yes, while the node runs" if model.reloads(key) else "no: the node must be started again",
        "for the whole cell": f"yes: mailraft config cluster set {section}.{key}" if key in model.CLUSTER else "no",
        "variable": variable_of(section, key),
        "flag": f"--set {section}.{key}=VALUE",
    }
    found |= {f"in the profile {profile}": text for profile, text in _in_profiles(section, key)}
    return found


def _text_of_default(section: str, key: str, value: Any) -> str:
    return shown_path(value) if isinstance(value, Path) else shown(section, key, _plain(value))


def _in_profiles(section: str, key: str) -> Iterator[tuple[str, str]]:
    for name, profile in PROFILES.items():
        if key in profile.defaults.get(section, {}):
            yield name, shown(section, key, profile.defaults[section][key])
