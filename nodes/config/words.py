"""A key of the configuration in words: what it may hold, its unit, its value as people may see it.

For errors, `mailraft config` and the reference page alike. Values of [secrets] and of keys that sound like one are
never shown.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from nodes.config import values
from nodes.config.filters import check_filter_socket
from nodes.config.node import NodeConfig, Section, TlsSection
from nodes.config.smtp import parse_listeners, parse_networks

ENVIRONMENT_PREFIX = "MAILRAFT_"
UNITS = {"_per_hour": "per hour", "_ms": "milliseconds", "_s": "seconds", "_bytes": "bytes"}
_SECRET = re.compile(r"password|passphrase|secret|token|(^|_)key$")
_KEY_ITSELF = re.compile(r"[0-9A-Fa-f]{32,}|[0-9A-Za-z+/=_-]{40,}")


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
        values.check_listen: 'host:port, fd:NAME for a socket that systemd passes, or "" for off',
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


def shown(section: str, key: str, value: Any) -> str:
    """A value as people may see it: never a secret."""
    named_file = section == "tls" and key in TlsSection.model_fields
    if section == "secrets" or (_SECRET.search(key) and not named_file):
        return "(not shown)"
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= 120 else text[:117] + "..."


def shown_path(path: Path) -> str:
    """Where a file should be; but not a key that was given in the place of its file."""
    return "(not shown)" if _KEY_ITSELF.fullmatch(path.name) else json.dumps(str(path), ensure_ascii=False)


def unit(key: str) -> str:
    """The unit that a key's name ends with; "" where it has none."""
    return next((word for ending, word in UNITS.items() if key.endswith(ending)), "")


def variable_of(section: str, key: str) -> str:
    """The environment variable that sets a key."""
    return f"{ENVIRONMENT_PREFIX}{section}__{key}".upper()
