"""`mailraft config`: what a node is told, by whom, whether it is right, and what each key means."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.config_cluster import cluster
from cli.groups import Group
from cli.options import complete_node, json_option, open_client, token_options
from cli.output import CommandError, counted, print_json, print_table
from cli.paths import api_path

if TYPE_CHECKING:
    from nodes.config.sources import Loaded

REFERENCE = "mailraft config explain KEY; docs/reference/configuration.md lists every key"

config_option = click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Configuration; otherwise $MAILRAFT_CONFIG, ./mailraft.toml or /etc/mailraft/mailraft.toml.",
)
set_option = click.option(
    "--set", "overrides", multiple=True, metavar="SECTION.KEY=VALUE", help="Set one key; may be repeated."
)
running_options = (
    click.option(
        "--cluster", "cluster_dir", type=click.Path(path_type=Path), metavar="DIR|HOST:PORT", help="A running cluster."
    ),
    click.option("--node", metavar="NAME", shell_complete=complete_node, help="Which of its nodes; the first if not."),
    token_options,
)


@click.group(cls=Group)
def config() -> None:
    """What a node is told and by whom; whether it is right; what each key means."""


config.add_command(cluster)


def _running(command: Any) -> Any:
    for option in reversed(running_options):
        command = option(command)
    return command


def _complete_key(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    from nodes.config.report import keys

    return [name for name in map(".".join, keys()) if name.startswith(incomplete)]


def read_config(config_file: Path | None, overrides: tuple[str, ...] = ()) -> Loaded:
    """The configuration of the node on this machine. Raises CommandError."""
    from nodes.config import sources as config_sources

    try:
        path = config_sources.discover(config_file, os.environ)
        return config_sources.read(path, os.environ, overrides)
    except config_sources.ConfigError as error:
        raise CommandError(str(error), REFERENCE) from None


def _of_running_node(cluster_dir: Path, node: str | None) -> dict[str, dict[str, str]]:
    found = open_client(cluster_dir).get("/v1/config", node)
    settings: dict[str, dict[str, str]] = found["settings"]
    return settings


def _of_file(loaded: Loaded) -> dict[str, dict[str, str]]:
    from nodes.config.report import settings

    return {one.name: {"value": one.value, "kind": one.kind, "source": one.source} for one in settings(loaded)}


@config.command()
@config_option
@set_option
@_running
@click.option("--all", "everything", is_flag=True, help="Defaults, too.")
@json_option
def show(
    config_file: Path | None,
    overrides: tuple[str, ...],
    cluster_dir: Path | None,
    node: str | None,
    everything: bool,
    as_json: bool,
) -> None:
    """Show each key that is set, its value, and where that came from. Secrets are never shown.

    With --cluster, what a running node has in force, what was set for the whole cell among it.
    """
    if cluster_dir is not None:
        found = _of_running_node(cluster_dir, node)
    else:
        found = _of_file(read_config(config_file, overrides))
    if as_json:
        print_json({"settings": found})
        return
    rows = [
        (name, one["value"], one["source"]) for name, one in found.items() if everything or one["kind"] != "default"
    ]
    print_table(("key", "value", "from"), rows, "everything is as it is by default: --all shows it")


@config.command()
@config_option
@set_option
@json_option
def check(config_file: Path | None, overrides: tuple[str, ...], as_json: bool) -> None:
    """Check a configuration, and the files that it names: everything that is wrong, at once.

    Exits 1 where a node would not start with it. What it warns of does not keep a node from starting.
    """
    from nodes.config import files as config_files
    from nodes.config import sources as config_sources

    problems: tuple[config_sources.Problem, ...] = ()
    warnings: list[str] = []
    path = None
    try:
        path = config_sources.discover(config_file, os.environ)
        loaded = config_sources.read(path, os.environ, overrides)
        config_files.check_files(loaded.config)
        warnings = [*config_files.open_secrets(loaded.config), *config_files.expired(loaded.config.tls)]
    except config_sources.ConfigError as error:
        problems = error.problems
    if as_json:
        print_json({"problems": [one._asdict() for one in problems], "warnings": warnings})
    for warning in () if as_json else warnings:
        click.echo(f"warning: {warning}")
    if problems:
        lines = "\n  ".join(["", *map(str, problems)])
        raise CommandError(f"{counted(len(problems), 'problem')}:{lines}", REFERENCE)
    if not as_json:
        click.echo(f"{path}: the configuration of node {loaded.config.node.name} is sound")


@config.command()
@click.argument("key", shell_complete=_complete_key)
@_running
@json_option
def explain(key: str, cluster_dir: Path | None, node: str | None, as_json: bool) -> None:
    """Explain one KEY (limits.recipients): what it means, what it may be, whether it can be reloaded.

    A section (limits) is explained by its keys. With --cluster, as a running node knows it, and what it is there.
    """
    if _explained_section(key, as_json):
        return
    found = _explained(key) if cluster_dir is None else _explained_by_node(key, cluster_dir, node)
    if as_json:
        print_json(found)
        return
    width = max(map(len, found))
    for title, text in found.items():
        click.secho(f"{title:<{width}}  ", bold=True, nl=False)
        click.echo(text)


def _explained_section(name: str, as_json: bool) -> bool:
    """Prints the keys of a section; False where it is none."""
    from nodes.config.report import section_keys

    found = section_keys(name)
    if found is None:
        return False
    if as_json:
        print_json({"keys": found})
    else:
        print_table(("key", "what"), list(found.items()), "")
        click.echo(f"\nmailraft config explain {next(iter(found))} tells all of one")
    return True


def _explained(key: str) -> dict[str, str]:
    from nodes.config.report import NoSuchKey, explanation

    try:
        return dict(explanation(key))
    except NoSuchKey as error:
        raise CommandError(str(error), "mailraft config show --all lists every key") from None


def _explained_by_node(key: str, cluster_dir: Path, node: str | None) -> dict[str, str]:
    found = open_client(cluster_dir).get(api_path("/v1/config/{}", key), node)
    return {"key": found["key"], **found["about"], "here": found["value"], "from": found["source"]}


@config.command()
@click.argument("files", nargs=-1, type=click.Path(path_type=Path), metavar="[FILE]...")
@config_option
@_running
@json_option
def diff(
    files: tuple[Path, ...], config_file: Path | None, cluster_dir: Path | None, node: str | None, as_json: bool
) -> None:
    """Compare two configurations: FILE and FILE, or one with that of a running node (--cluster DIR --node NAME).

    A key is listed where its value differs, with whether a running node can be told anew. Exits 0 whether or not
    there is a difference.
    """
    before, after = _two_sides(files, config_file, cluster_dir, node)
    found = {
        name: {"before": before[name]["value"], "after": one["value"], "reload": _reloads(name)}
        for name, one in after.items()
        if before.get(name, one)["value"] != one["value"]
    }
    if as_json:
        print_json({"changes": found})
        return
    rows = [
        (name, one["before"], one["after"], "reload" if one["reload"] else "restart") for name, one in found.items()
    ]
    print_table(("key", "before", "after", "takes"), rows, "no difference")


def _two_sides(
    files: tuple[Path, ...], config_file: Path | None, cluster_dir: Path | None, node: str | None
) -> tuple[dict[str, dict[str, str]], dict[str, dict[str, str]]]:
    if cluster_dir is not None and len(files) <= 1:
        return _of_running_node(cluster_dir, node), _of_file(read_config(files[0] if files else config_file))
    if cluster_dir is None and len(files) == 2:
        return _of_file(read_config(files[0])), _of_file(read_config(files[1]))
    raise click.UsageError("Compare two FILEs, or one with a running node: --cluster DIR --node NAME.")


def _reloads(name: str) -> bool:
    from nodes.config.words import section_model

    section, _, key = name.partition(".")
    return section_model(section).reloads(key)
