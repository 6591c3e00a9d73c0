"""Where a node's configuration comes from: flags, the environment, a TOML file, the defaults, in that order.

Every error is one line that a person can act on: where the value stands, the key, the value, what is
allowed. Values of [secrets] and of keys that sound like one are never repeated.
"""

from __future__ import annotations

import difflib
import json
import re
import ssl
import stat
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args, get_origin

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from nodes import config_values as values
from nodes.config import NodeConfig, Section, TlsSection
from nodes.config_filters import check_filter_socket
from nodes.config_smtp import parse_listeners, parse_networks

ENVIRONMENT_PREFIX = "MAILRAFT_"
_PLACE = re.compile(r" \(at (?:line (\d+), column (\d+)|(end of document))\)$")
_SECRET = re.compile(r"password|passphrase|secret|token|(^|_)key$")
_KEY_ITSELF = re.compile(r"[0-9A-Fa-f]{32,}|[0-9A-Za-z+/=_-]{40,}")


class ConfigError(Exception):
    """The configuration can not be used; the text has one line for each thing that is wrong."""


class Value(NamedTuple):
    """One setting as it was found. `source` names the place in an error."""

    value: Any
    source: str


Values = dict[str, dict[str, Value]]


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
    raise ConfigError(
        "no configuration found: name it with --config FILE or $MAILRAFT_CONFIG, "
        f"or put it at {' or '.join(str(c) for c in candidates)} (mailraft cluster init writes one for each node)"
    )


def load(path: Path, environ: Mapping[str, str], overrides: Sequence[str] = ()) -> NodeConfig:
    """The configuration of one node; `overrides` are `section.key=value`. Raises ConfigError."""
    values: Values = {}
    for section, table in _from_file(path).items():
        values[section] = {key: Value(value, str(path)) for key, value in table.items()}
    for section, key, value in (*_from_environment(environ), *_from_overrides(overrides)):
        values.setdefault(section, {})[key] = value
    return _validated(values, path).with_paths_from(path.absolute().parent)


def check_files(config: NodeConfig) -> None:
    """Raises ConfigError for each file that the configuration names and that can not be read."""
    wrong = []
    named = [(f"tls.{key}", path) for key, path in config.tls]
    named += [(f"secrets.{key}", path) for key, path in config.secrets]
    for name, path in [*named, ("delivery.trust", config.delivery.trust)]:
        if path is None:
            continue
        try:
            path.open("rb").close()
        except OSError as error:
            wrong.append(f"{name} = {_shown_path(path)}: can not be read: {error.strerror}")
    if not wrong:
        wrong = _damaged_tls_files(config.tls)
    if wrong:
        raise ConfigError("\n".join(wrong))


def _damaged_tls_files(tls: TlsSection) -> list[str]:
    """What is wrong with what stands in the files, which can be read."""
    pairs = [("certificate", tls.certificate, "key", tls.key)]
    if tls.server_certificate is not None and tls.server_key is not None:
        pairs.append(("server_certificate", tls.server_certificate, "server_key", tls.server_key))
    certificates = [("ca", tls.ca), *((name, path) for name, path, _, _ in pairs)]
    wrong = [
        f'tls.{name} = "{path}": holds no certificate in PEM form'
        for name, path in certificates
        if not _holds_one(path)
    ]
    for name, path, key_name, key in () if wrong else pairs:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(path, key, password="")
        except ssl.SSLError as error:
            if error.reason == "KEY_VALUES_MISMATCH":
                wrong.append(f'tls.{key_name} = "{key}": is not the key of tls.{name} = "{path}"')
            else:
                wrong.append(f'tls.{key_name} = "{key}": holds no private key in PEM form without a password')
    return wrong


def _holds_one(certificate: Path) -> bool:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(cafile=certificate)
    except ssl.SSLError:
        return False
    return True


def open_secrets(config: NodeConfig) -> list[str]:
    """One line for each file with a secret that others than its owner may read or write."""
    files = {
        "tls.key": config.tls.key,
        "tls.server_key": config.tls.server_key,
        "secrets.cluster_key_file": config.secrets.cluster_key_file,
    }
    modes = {name: stat.S_IMODE(path.stat().st_mode) for name, path in files.items() if path is not None}
    return [
        f"{name} = {files[name]}: has mode {mode:04o}, so others than its owner may use it: chmod 0600"
        for name, mode in modes.items()
        if mode & 0o077
    ]


def _from_file(path: Path) -> dict[str, dict[str, Any]]:
    try:
        text = path.read_bytes().decode()
    except OSError as error:
        raise ConfigError(f"{path}: can not be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}, line {line}: not UTF-8 text") from None
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(_damaged(path, text, str(error))) from None
    wrong = [_wrong_section(path, name, table) for name, table in document.items()]
    if any(wrong):
        raise ConfigError("\n".join(line for line in wrong if line))
    return document


def _damaged(path: Path, text: str, message: str) -> str:
    place = _PLACE.search(message)
    if place is None:
        return f"{path}: not valid TOML: {message}"
    lines = text.splitlines() or [""]
    line, column = (place[1], place[2]) if place[1] else (str(len(lines)), str(len(lines[-1]) + 1))
    return f"{path}, line {line}, column {column}: not valid TOML: {message[: place.start()]}"


def _wrong_section(path: Path, name: str, table: Any) -> str | None:
    if name not in NodeConfig.model_fields:
        return f"{path}: [{name}]: no such section{_meant(name, NodeConfig.model_fields)}"
    if not isinstance(table, dict):
        return f"{path}: {name}: must be a table, as in [{name}]"
    return None


def _from_environment(environ: Mapping[str, str]) -> Iterator[tuple[str, str, Value]]:
    for variable, text in sorted(environ.items()):
        if not variable.startswith(ENVIRONMENT_PREFIX):
            continue
        section, underscore, key = variable.removeprefix(ENVIRONMENT_PREFIX).lower().partition("_")
        if underscore and section in NodeConfig.model_fields:
            yield section, key, Value(text, f"environment variable {variable}")


def _from_overrides(overrides: Sequence[str]) -> Iterator[tuple[str, str, Value]]:
    for override in overrides:
        name, equals, text = override.partition("=")
        section, dot, key = name.strip().partition(".")
        if not equals or not dot or not key:
            raise ConfigError(f"--set {name}: must be section.key=value, as in limits.recipients=200")
        if section not in NodeConfig.model_fields:
            raise ConfigError(f"--set {name}: [{section}]: no such section{_meant(section, NodeConfig.model_fields)}")
        yield section, key, Value(text, f"--set {name.strip()}")


def _validated(values: Values, path: Path) -> NodeConfig:
    plain = {section: {key: found.value for key, found in table.items()} for section, table in values.items()}
    # a section with required keys that is missing altogether is named key by key
    for name, field in NodeConfig.model_fields.items():
        if field.is_required():
            plain.setdefault(name, {})
    try:
        return NodeConfig.model_validate(plain)
    except ValidationError as error:
        lines = [_line(item, values, path) for item in error.errors(include_url=False)]
        raise ConfigError("\n".join(dict.fromkeys(lines))) from None


def _line(error: Any, values: Values, path: Path) -> str:
    location, kind = error["loc"], error["type"]
    reason = str(error["ctx"]["error"]) if kind == "value_error" else ""
    if len(location) < 2:
        return f"{path}: {reason or error['msg']}"
    section, key = str(location[0]), str(location[1])
    fields = section_model(section).model_fields
    if kind == "missing" and len(location) == 2:
        return f"{path}: {section}.{key}: is missing: {allowed(fields[key])}"
    found = values[section][key]
    where = f"{found.source}: {section}.{key} = {_shown(section, key, found.value)}"
    if kind == "extra_forbidden":
        return f"{where}: no such key{_meant(key, fields)}"
    return f"{where}: {reason or 'must be ' + allowed(fields[key])}"


def section_model(name: str) -> type[Section]:
    """The model of the section `name`."""
    annotation = NodeConfig.model_fields[name].annotation
    assert isinstance(annotation, type)
    assert issubclass(annotation, Section)
    return annotation


def allowed(field: FieldInfo) -> str:
    """What a key may hold, in words: for errors and for the reference page."""
    parsers = {getattr(item, "func", None) for item in field.metadata}
    special = {
        values.parse_size: f'a number of bytes, or one with a unit as in "50 MiB"{_bounds(field)}',
        parse_listeners: "listeners: smtp, submission, submissions, lmtp",
        parse_networks: "networks, as in 192.0.2.0/24 or 2001:db8::/32",
        values.parse_peers: "a table of names and host:port",
        values.check_range: "two numbers of milliseconds, the shorter first",
        values.check_address: "host:port",
        values.check_listen: 'host:port, or "" for off',
        check_filter_socket: 'host:port, unix:/path, or "" for none',
        values.check_name: "a name of lower-case letters, digits and dashes",
    }
    for parser, words in special.items():
        if parser in parsers:
            return words
    if get_origin(field.annotation) is Literal:
        return " or ".join(f'"{choice}"' for choice in get_args(field.annotation))
    if field.annotation is int:
        return "a whole number" + _bounds(field)
    if field.annotation is bool:
        return "true or false"
    if field.annotation is float:
        return "a number" + _bounds(field)
    if get_origin(field.annotation) is tuple:
        return "a list"
    if get_origin(field.annotation) is dict:
        return "a table of lists"
    return "text" if field.annotation is str else "a path"


def _bounds(field: FieldInfo) -> str:
    least = [item.ge for item in field.metadata if hasattr(item, "ge")]
    above = [item.gt for item in field.metadata if hasattr(item, "gt")]
    most = [item.le for item in field.metadata if hasattr(item, "le")]
    words = []
    if above:
        words.append(f"above {max(above)}")
    elif least:
        words.append(f"at least {max(least)}")
    if most:
        words.append(f"at most {min(most)}")
    return ", " + ", ".join(words) if words else ""


def _shown(section: str, key: str, value: Any) -> str:
    named_file = section == "tls" and key in TlsSection.model_fields
    if section == "secrets" or (_SECRET.search(key) and not named_file):
        return "(not shown)"
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= 120 else text[:117] + "..."


def _shown_path(path: Path) -> str:
    """Where a file should be; but not a key that was given in the place of its file."""
    return "(not shown)" if _KEY_ITSELF.fullmatch(path.name) else json.dumps(str(path), ensure_ascii=False)


def _meant(name: str, known: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]}?" if close else f"; there are {', '.join(known)}"
