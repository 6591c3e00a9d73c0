"""A line for every command of `mailraft` that asks the admin API, so that all of them are tried without being named.

Parameters are filled by their names. What a command needs besides what it must be given stands in MORE.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path

import click

ID = "0193a1b2c3d4e5f60718293a4b5c6d7e"
VALUES: dict[str, str] = {
    "account": "alice@example.test",
    "address": "alice@example.test",
    "as_of": "-2h",
    "before": "-30d",
    "body": "a text",
    "code": "123456",
    "directory": "https://acme.test/directory",
    "domain": "example.test",
    "domains": "example.test",
    "host": "127.0.0.1",
    "ids": ID,
    "item_id": ID,
    "members": "bob@example.test",
    "mode": "mark",
    "name": "example",
    "names": "mail.example.test",
    "place": "alice@example.test",
    "position": "1",
    "reason": "a test",
    "recipients": "bob@example.test",
    "report_id": "0193a1b2",
    "rights": "lr",
    "route": "relay.example.test",
    "role_name": "auditor",
    "selector": "2026a",
    "sender": "alice@example.test",
    "since": "-1h",
    "size": "1 GiB",
    "targets": "bob@example.test",
    "tenant": "example",
    "token_id": ID,
    "wanted": "mail.example.test",
    "what": "default",
    "who": "alice@example.test",
    "whom": "bob@example.test",
}
# of one command, where a parameter of that name is something else there
OF_COMMAND: dict[str, dict[str, str]] = {
    "app-password": {"name": "phone"},
    "certificate": {"name": "mail.example.test"},
    "cluster": {"name": "n1"},
    "config cluster set": {"settings": "limits.recipients=100"},
    "config cluster unset": {"keys": "limits.recipients"},
    "config explain": {"key": "limits.recipients"},
    "node drain": {"name": "n1"},
    "policy reset": {"settings": "dmarc"},
    "policy set": {"settings": "dmarc=mark"},
    "quota set": {"settings": "accounts=100"},
    "region": {"name": "north"},
    "share": {"folder": "News"},
}
MORE: dict[str, tuple[str, ...]] = {
    "account add": ("--password-stdin",),
    "account apop": ("--remove",),
    "account expire": ("--at", "30d"),
    "account passwd": ("--password-stdin",),
    "backup create": ("--unencrypted",),
    "certificate account": ("--contact", "hostmaster@example.test", "--agree"),
    "dkim schedule": ("--every", "90"),
    "log export": ("--type", "Tenant*"),
    "log redact": ("--reason", "a test"),
    "queue suspend": ("--reason", "a test"),
    "region grant": ("--tenant", "example"),
    "report set": ("--organisation", "Example"),
    "route add": ("--host", "relay.example.test"),
    "send": ("--body", "a text"),
    "tenant set": ("--time-travel",),
    "tenant update": ("--title", "Example Ltd"),
    "verdicts set": ("--dmarc", "mark"),
}
STDIN = "correct horse battery\n"  # the password of those that ask for one
FILES = {
    "tenant export": "5f" * 32,
    "account import": json.dumps({"address": "new@example.test"}),
    "log what-if": '[[refuse]]\nrecipient = "*@example.test"\nsender = "*"\n',
    "region follow": "{}",
}
WRITTEN = {("backup create", "folder"), ("region grant", "out"), ("tenant export", "file")}
_INNER = frozenset({"cluster_dir", "data", "data_dir", "files", "node", "config_file"})


def arguments(
    name: str, command: click.Command, values: Mapping[str, str], folder: Path, optional: Collection[str] = ()
) -> list[str]:
    """The line without the program's name. Files that it is to read are in `folder`; questions are answered.

    `optional`: options that are given, too, where the command has them.
    """
    found = [*name.split(), *MORE.get(name, ())]
    own = {key: value for of, some in OF_COMMAND.items() if of in name for key, value in some.items()}
    for one in command.params:
        if one.name in _INNER or one.name is None:
            continue
        if one.name == "yes":
            found.append("--yes")
        elif one.required or one.name in optional or isinstance(one, click.Argument):
            value = _path(name, one, folder) if _is_path(one) else {**VALUES, **own, **values}[one.name]
            found += [value] if isinstance(one, click.Argument) else [one.opts[0], value]
    return found


def _is_path(parameter: click.Parameter) -> bool:
    return isinstance(parameter.type, click.Path | click.File)


def _path(name: str, parameter: click.Parameter, folder: Path) -> str:
    """A file that is there for one that is read; a new name for one that is written."""
    path = folder / f"{name.replace(' ', '-')}-{parameter.name}"
    if (name, parameter.name) not in WRITTEN:
        path.write_text(FILES.get(name, "a text"))
    return str(path)
