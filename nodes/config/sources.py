"""Where a node's configuration comes from: flags, the environment, a TOML file, its profile, the defaults, in
that order.

Every error is one line that a person can act on: where the value stands, the key, the value, what is
allowed. Values of [secrets] and of keys that sound like one are never repeated.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import ValidationError

from nodes.config.node import NodeConfig
from nodes.config.places import lines_of_keys
from nodes.config.rules import profile_defaults, wrong_together
from nodes.config.words import ENVIRONMENT_PREFIX, allowed, section_model, shown

_PLACE = re.compile(r" \(at (?:line (\d+), column (\d+)|(end of document))\)$")


class Problem(NamedTuple):
    """One thing that is wrong: the key, its value as it may be shown, where it stands, what is allowed."""

    place: str
    name: str
    value: str
    reason: str
    nearest: str = ""

    def __str__(self) -> str:
        subject = f"{self.name} = {self.value}" if self.value else self.name
        meant = f"; did you mean {self.nearest}?" if self.nearest else ""
        return ": ".join(part for part in (self.place, subject, self.reason) if part) + meant


class ConfigError(Exception):
    """The configuration can not be used; the text has one line for each thing that is wrong."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(dict.fromkeys(map(str, problems))))
        self.problems = tuple(problems)


Kind = Literal["profile", "file", "variable", "flag"]


class Value(NamedTuple):
    """One setting as it was found. `source` names the place, for an error and for people."""

    value: Any
    source: str
    kind: Kind


Values = dict[str, dict[str, Value]]


class Loaded(NamedTuple):
    """A configuration, and where each key that is not at its default came from."""

    config: NodeConfig
    path: Path
    values: Values


def discover(explicit: Path | None, environ: Mapping[str, str]) -> Path:
    """The file to read: --config, $MAILRAFT_CONFIG, ./mailraft.toml, /etc/mailraft/mailraft.toml."""
    if explicit is not None:
        return explicit
    if environ.get("MAILRAFT_CONFIG"):
        return Path(environ["MAILRAFT_CONFIG"])
    candidates = (Path("mailraft.toml"), Path("/etc/mailraft/mailraft.toml"))
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise ConfigError([
        Problem("", "no configuration found", "", "name it with --config FILE or $MAILRAFT_CONFIG, "
        f"or put it at {' or '.join(str(c) for c in candidates)} (mailraft cluster init writes one for each node)")
    ])  # fmt: skip


def load(path: Path, environ: Mapping[str, str], overrides: Sequence[str] = ()) -> NodeConfig:
    """The configuration of one node; `overrides` are `section.key=value`. Raises ConfigError."""
    return read(path, environ, overrides).config


def read(path: Path, environ: Mapping[str, str], overrides: Sequence[str] = (), text: str | None = None) -> Loaded:
    """The same, with where each value came from; `text` instead of what the file holds. Raises ConfigError."""
    values, problems = _gathered(path, environ, overrides, text)
    config, more = _validated(values, path)
    if config is None or problems or more:
        raise ConfigError([*problems, *more])
    return Loaded(config.with_paths_from(path.absolute().parent), path, values)


def _gathered(
    path: Path, environ: Mapping[str, str], overrides: Sequence[str], text: str | None
) -> tuple[Values, list[Problem]]:
    """What each source says, the strongest last; and what is wrong about where it says it."""
    values, problems = _from_file(path, text)
    for found in (*_from_environment(environ), *_from_overrides(overrides)):
        if isinstance(found, Problem):
            problems.append(found)
        else:
            section, key, value = found
            values.setdefault(section, {})[key] = value
    profile = values.get("node", {}).get("profile")
    for section, key, default in profile_defaults(profile.value if profile else None):
        assert profile is not None
        values.setdefault(section, {}).setdefault(key, Value(default, f"profile {profile.value}", "profile"))
    return values, problems


def with_key(config: NodeConfig, name: str, value: Any, place: str) -> NodeConfig | list[Problem]:
    """The configuration with another value of one key, checked like that of a file; or what is wrong with it."""
    section, _, key = name.partition(".")
    try:
        checked = section_model(section).model_validate({**dict(getattr(config, section)), key: value})
    except ValidationError as error:
        values = {section: {key: Value(value, place, "flag")}}
        found = [item | {"loc": (section, *item["loc"])} for item in error.errors(include_url=False)]
        return [_problem(item, values, Path(place)) for item in found if item["loc"][1:2] == (key,)]
    changed = config.model_copy(update={section: checked})
    wrong = [one for one in wrong_together(changed) if one not in wrong_together(config)]
    values = {section: {key: Value(value, place, "flag")}}
    return [_together(other, reason, values, Path(place)) for other, reason in wrong] or changed


def not_a_cluster_key(name: str, known: Sequence[str]) -> Problem:
    """A key that can not be set for the whole cell, or that is not there."""
    close = difflib.get_close_matches(name, known, n=1)
    return Problem("", name, "", "can not be set for the whole cell", close[0] if close else "")


def _from_file(path: Path, text: str | None) -> tuple[Values, list[Problem]]:
    """Raises ConfigError for what is no TOML at all."""
    document, text = _document(path, text)
    lines = lines_of_keys(text)
    values: Values = {}
    problems = []
    for name, table in document.items():
        line = f"{path}, line {lines.get((name,), 1)}"
        if name not in NodeConfig.model_fields:
            problems.append(_no_such_section(line, name))
        elif not isinstance(table, dict):
            problems.append(Problem(line, name, "", f"must be a table, as in [{name}]"))
        else:
            values[name] = {
                key: Value(value, f"{path}, line {lines.get((name, key), 1)}", "file") for key, value in table.items()
            }
    return values, problems


def _document(path: Path, text: str | None) -> tuple[dict[str, Any], str]:
    try:
        text = path.read_bytes().decode() if text is None else text
        return tomllib.loads(text), text
    except OSError as error:
        raise ConfigError([Problem(str(path), "can not be read", "", str(error.strerror))]) from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ConfigError([Problem(f"{path}, line {line}", "not UTF-8 text", "", "")]) from None
    except tomllib.TOMLDecodeError as error:
        assert text is not None
        raise ConfigError([_damaged(path, text, str(error))]) from None


def _damaged(path: Path, text: str, message: str) -> Problem:
    place = _PLACE.search(message)
    if place is None:
        return Problem(str(path), "not valid TOML", "", message)
    lines = text.splitlines() or [""]
    line, column = (place[1], place[2]) if place[1] else (str(len(lines)), str(len(lines[-1]) + 1))
    return Problem(f"{path}, line {line}, column {column}", "not valid TOML", "", message[: place.start()])


def _no_such_section(place: str, name: str) -> Problem:
    return Problem(place, f"[{name}]", "", *_unknown("section", name, NodeConfig.model_fields))


def _from_environment(environ: Mapping[str, str]) -> Iterator[tuple[str, str, Value] | Problem]:
    """MAILRAFT_SECTION__KEY; with one underline only where the section is one of ours, as there are other variables."""
    for variable, text in sorted(environ.items()):
        if not variable.startswith(ENVIRONMENT_PREFIX):
            continue
        name = variable.removeprefix(ENVIRONMENT_PREFIX).lower()
        section, clear, key = name.partition("__")
        if not clear:
            section, _, key = name.partition("_")
        if key and section in NodeConfig.model_fields:
            yield section, key, Value(text, f"environment variable {variable}", "variable")
        elif clear:
            yield _no_such_section(f"environment variable {variable}", section)


def _from_overrides(overrides: Sequence[str]) -> Iterator[tuple[str, str, Value] | Problem]:
    for override in overrides:
        name, equals, text = override.partition("=")
        section, dot, key = name.strip().partition(".")
        place = f"--set {name.strip()}"
        if not equals or not dot or not key:
            yield Problem(place, "must be section.key=value, as in limits.recipients=200", "", "")
        elif section not in NodeConfig.model_fields:
            yield _no_such_section(place, section)
        else:
            yield section, key, Value(text, place, "flag")


def _validated(values: Values, path: Path) -> tuple[NodeConfig | None, list[Problem]]:
    plain = {section: {key: found.value for key, found in table.items()} for section, table in values.items()}
    # a section with required keys that is missing altogether is named key by key
    for name, field in NodeConfig.model_fields.items():
        if field.is_required():
            plain.setdefault(name, {})
    try:
        config = NodeConfig.model_validate(plain)
    except ValidationError as error:
        return None, [_problem(item, values, path) for item in error.errors(include_url=False)]
    return config, [_together(key, reason, values, path) for key, reason in wrong_together(config)]


def _problem(error: Any, values: Values, path: Path) -> Problem:
    location, kind = error["loc"], error["type"]
    reason = str(error["ctx"]["error"]) if kind == "value_error" else ""
    if len(location) < 2:
        return Problem(str(path), "", "", f"{'.'.join(map(str, location))}: {reason or error['msg']}")
    section, key = str(location[0]), str(location[1])
    fields = section_model(section).model_fields
    if kind == "missing" and len(location) == 2:
        return Problem(str(path), f"{section}.{key}", "", f"is missing: {allowed(fields[key])}")
    found = values[section][key]
    where = (found.source, f"{section}.{key}", shown(section, key, found.value))
    if kind == "extra_forbidden" and len(location) == 2:
        return Problem(*where, *_unknown("key", key, fields))
    return Problem(*where, reason or "must be " + allowed(fields[key]))


def _together(name: str, reason: str, values: Values, path: Path) -> Problem:
    section, _, key = name.partition(".")
    found = values.get(section, {}).get(key)
    if found is None:
        return Problem(str(path), name, "", reason)
    return Problem(found.source, name, shown(section, key, found.value), reason)


def _unknown(what: str, name: str, known: Mapping[str, Any]) -> tuple[str, str]:
    """The reason, and the nearest right name."""
    close = difflib.get_close_matches(name, known, n=1)
    return (f"no such {what}", close[0]) if close else (f"no such {what}; there are {', '.join(known)}", "")
