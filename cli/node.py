"""`mailraft node`: one node in the foreground, as a service manager starts it; and a look into one that is stopped."""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path
from typing import Any

import click

from cli.groups import Group
from cli.node_doctor import doctor, drain
from cli.node_join import join
from cli.options import cluster_option, json_option, node_option, open_client
from cli.output import CommandError, print_json, say
from cli.systemd_unit import systemd_unit


@click.group(cls=Group)
def node() -> None:
    """Run one node, tell it anew, look into one that is stopped."""


node.add_command(join)
node.add_command(doctor)
node.add_command(drain)
node.add_command(systemd_unit)

config_option = click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Configuration; otherwise $MAILRAFT_CONFIG, ./mailraft.toml or /etc/mailraft/mailraft.toml.",
)


@node.command()
@config_option
@click.option("--set", "overrides", multiple=True, metavar="SECTION.KEY=VALUE", help="Set one key; may be repeated.")
@click.option("--check", is_flag=True, help="Read and check the configuration, then end.")
@click.option("--parent-pid", type=int, hidden=True)
def run(config_file: Path | None, overrides: tuple[str, ...], check: bool, parent_pid: int | None) -> None:
    """Run one node until SIGTERM or SIGINT."""
    from nodes.process import GC_THRESHOLDS, end_with_parent

    gc.set_threshold(*GC_THRESHOLDS)  # a fifth of what all the imports take went into looking for garbage in them
    from nodes.config import files as config_files
    from nodes.config import sources as config_sources
    from nodes.config.reloading import FileSource
    from nodes.files import finish

    if parent_pid is not None:
        end_with_parent(parent_pid)
    try:
        path = config_sources.discover(config_file, os.environ)
        tls_files = config_sources.load(path, os.environ, overrides).tls
        finish(tls_files.certificate, tls_files.key)  # what an interrupted renewal has left
        source = FileSource(path, dict(os.environ), overrides)
        loaded = source.read()
        config = loaded.config
        warnings = [*config_files.open_secrets(config), *config_files.expired(config.tls)]
    except config_sources.ConfigError as error:
        raise CommandError(str(error), "docs/reference/configuration.md lists every key") from None
    for warning in warnings:
        say(f"warning: {warning}")
    if check:
        click.echo(f"{path}: the configuration of node {config.node.name} is sound")
        return
    from nodes.server import serve
    from nodes.starting import StartError

    try:
        serve(loaded, source)
    except StartError as error:
        raise CommandError(str(error), error.hint) from None
    sys.exit(0)


@node.command()
@cluster_option
@node_option
@json_option
def reload(cluster_dir: Path, node: str | None, as_json: bool) -> None:
    """Have running nodes read their configuration again: every node of the cluster, or --node NAME.

    What can be is taken up at once and whole; what needs a restart is named. A configuration that is wrong changes
    nothing on its node; the others take up theirs. What was changed stands in the log (mailraft log tail).
    """
    client = open_client(cluster_dir)
    found: dict[str, Any] = {}
    failed: dict[str, CommandError] = {}
    for name in [node] if node else client.node_names:
        try:
            found[name] = client.change("POST", "/v1/reload", node=name)
        except CommandError as error:
            failed[name] = error
    if as_json:
        print_json(found)
    else:
        _print_reloaded(found)
    if failed:
        text = "\n  ".join(f"{name}: {str(error).removeprefix(f'{name}: ')}" for name, error in failed.items())
        raise CommandError(text, next(iter(failed.values())).hint, max(error.exit_code for error in failed.values()))


def _print_reloaded(found: dict[str, Any]) -> None:
    for name, done in found.items():
        for one in done["changes"]:
            click.echo(f"{name}: {one['key']} was {one['before']} and is {one['after']}")
        if not done["changes"]:
            click.echo(f"{name}: nothing was changed")
        if done["restart"]:
            say(f"{name}: needs a restart for {', '.join(done['restart'])}")


@node.command()
@config_option
@click.option(
    "--data", "data_dir", type=click.Path(path_type=Path), metavar="DIR", help="Its node.data_dir, instead of --config."
)
@json_option
def inspect(config_file: Path | None, data_dir: Path | None, as_json: bool) -> None:
    """Show how far the log of a stopped node goes.

    Of the nodes of a cell, the one with the highest last term has the latest log; of equal terms, the one with the
    highest last index. What a majority of them holds can not be lost.
    """
    from nodes.inspection import NotInspected
    from nodes.inspection import inspect as facts_of

    if config_file is not None and data_dir is not None:
        raise click.UsageError("--config and --data: one of them only")
    try:
        facts = facts_of(data_dir or _data_dir(config_file))
    except NotInspected as error:
        raise CommandError(str(error), "another node's folder: any sound one has what a majority held") from None
    if facts["running"]:
        say("note: this node runs, so it may be further by now; mailraft cluster status asks it")
    if as_json:
        print_json(facts)
        return
    for name, value in facts.items():
        if name != "running":
            click.echo(f"{name.replace('_', ' '):<10}  {'-' if value is None else value}")


def _data_dir(config_file: Path | None) -> Path:
    from nodes.config import sources as config_sources

    try:
        path = config_sources.discover(config_file, os.environ)
        return config_sources.load(path, os.environ).node.data_dir
    except config_sources.ConfigError as error:
        raise CommandError(str(error), "docs/reference/configuration.md lists every key") from None
