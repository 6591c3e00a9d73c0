"""The reference pages under docs/reference, written from the program itself, so that they can not drift.

`mailraft docs` checks them, `mailraft docs --write` writes them anew; a test does the former.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click
from prometheus_client.metrics import MetricWrapperBase

from cli.command_endpoints import command_lines
from cli.output import CommandError, say
from cli.reference_api import api_lines
from cli.reference_errors import errors_lines
from nodes.config.node import NodeConfig, Section
from nodes.config.words import allowed, section_model, variable_of
from nodes.metrics import Metrics

HEAD = "<!-- Written by `mailraft docs --write` from the program. Do not edit. -->\n"


@click.command(hidden=True)
@click.argument("folder", type=click.Path(path_type=Path), default=Path("docs/reference"))
@click.option("--write", is_flag=True, help="Write the pages instead of checking them.")
def docs(folder: Path, write: bool) -> None:
    """Check that the reference pages in FOLDER are current."""
    stale = [name for name, text in pages().items() if _read(folder / name) != text]
    if not write and stale:
        raise CommandError(f"not current: {', '.join(stale)}", f"mailraft docs --write {folder}")
    folder.mkdir(parents=True, exist_ok=True)
    for name in stale:
        (folder / name).write_text(pages()[name])
    say(f"{folder}: {', '.join(stale) + ' written' if stale else 'current'}")


def pages() -> dict[str, str]:
    """Every page by file name."""
    return {
        "api.md": HEAD + "\n".join(api_lines()) + "\n",
        "commands.md": HEAD + "\n".join(command_lines()) + "\n",
        "configuration.md": configuration_page(),
        "cli.md": cli_page(),
        "errors.md": HEAD + "\n".join(errors_lines()),
        "metrics.md": metrics_page(),
    }


def _read(path: Path) -> str | None:
    return path.read_text() if path.is_file() else None


def configuration_page() -> str:
    """Every key of the configuration, from the model."""
    return HEAD + "\n".join(
        [
            "# Configuration",
            "",
            "A node reads one TOML file: `--config FILE`, else `$MAILRAFT_CONFIG`, else `./mailraft.toml`, else",
            "`/etc/mailraft/mailraft.toml`. A flag `--set section.key=value` wins over the environment variable",
            "`MAILRAFT_SECTION__KEY`, that over the file, that over the profile (`node.profile`), that over the",
            "default; what `mailraft config cluster set` set for the whole cell wins over all. A key that is not",
            "on this page is an error. Relative paths start at the folder of the file. `mailraft config` checks a file",
            "and explains a key; `mailraft node reload` has a running node read it again.",
            "",
            *(line for name, field in NodeConfig.model_fields.items() for line in _section(name, section_model(name))),
        ]
    )


def _section(name: str, section: type[Section]) -> Iterator[str]:
    yield f"## [{name}]"
    yield ""
    yield " ".join((section.__doc__ or "").split())
    yield ""
    yield "| key | may be | default | reload | |"
    yield "|---|---|---|---|---|"
    for key, field in section.model_fields.items():
        default = "(required)" if field.is_required() else f"`{_default(field.default)}`"
        reload = "yes" if section.reloads(key) else "no"
        yield f"| `{key}` | {_cell(allowed(field))} | {default} | {reload} | {_cell(field.description or '')} |"
    yield ""
    yield f"Environment: `{variable_of(name, next(iter(section.model_fields)))}` and so on."
    yield ""


def _default(value: Any) -> str:
    match value:
        case None:
            return "none"
        case str() | Path():
            return f'"{value}"'
        case tuple():
            return str(list(value))
        case _:
            return str(value)


def cli_page() -> str:
    """Every command with its options, from click."""
    from cli.main import COMMANDS, main

    lines = ["# The mailraft command", "", *_help(main, "mailraft", None)]
    with click.Context(main, info_name="mailraft", **main.context_settings) as context:
        for name, lazy in COMMANDS.items():
            command = main.get_command(context, name)
            if command is not None and not lazy.hidden:
                lines += _commands(command, f"mailraft {name}", context)
    return HEAD + "\n".join(lines)


def _commands(command: click.Command, path: str, parent: click.Context) -> Iterable[str]:
    yield f"## {path}"
    yield ""
    yield from _help(command, path, parent)
    if isinstance(command, click.Group):
        with click.Context(command, info_name=path.rpartition(" ")[2], parent=parent) as context:
            for name in command.list_commands(context):
                child = command.get_command(context, name)
                if child is not None and not child.hidden:
                    yield from _commands(child, f"{path} {name}", context)


def _help(command: click.Command, path: str, parent: click.Context | None) -> Iterable[str]:
    settings = {**command.context_settings, "terminal_width": 100}
    context = click.Context(command, info_name=path.rpartition(" ")[2], parent=parent, **settings)
    yield "```text"
    yield command.get_help(context)
    yield "```"
    yield ""


def metrics_page() -> str:
    """Every metric, from the registry."""
    lines = [
        "# Metrics",
        "",
        "`GET /metrics` on `listen.http`, in the Prometheus text format. Counters begin at 0 when the node starts.",
        "",
        "| metric | kind | labels | |",
        "|---|---|---|---|",
    ]
    found = [metric for metric in vars(Metrics("n1")).values() if isinstance(metric, MetricWrapperBase)]
    for metric in sorted(found, key=lambda one: one._name):
        name = metric._name + ("_total" if metric._type == "counter" else "")
        labels = ", ".join(f"`{label}`" for label in metric._labelnames)
        lines.append(f"| `{name}` | {metric._type} | {labels} | {_cell(metric._documentation)} |")
    return HEAD + "\n".join([*lines, ""])


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
