"""`mailraft node`: one node in the foreground, as a service manager starts it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from cli.output import CommandError


@click.group()
def node() -> None:
    """Run one node."""


@node.command()
@click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Configuration; otherwise $MAILRAFT_CONFIG, ./mailraft.toml or /etc/mailraft/mailraft.toml.",
)
@click.option("--set", "overrides", multiple=True, metavar="SECTION.KEY=VALUE", help="Set one key; may be repeated.")
@click.option("--check", is_flag=True, help="Read and check the configuration, then end.")
@click.option("--parent-pid", type=int, hidden=True)
def run(config_file: Path | None, overrides: tuple[str, ...], check: bool, parent_pid: int | None) -> None:
    """Run one node until SIGTERM or SIGINT."""
    from nodes import config_sources
    from nodes.process import end_with_parent

    if parent_pid is not None:
        end_with_parent(parent_pid)
    try:
        path = config_sources.discover(config_file, os.environ)
        config = config_sources.load(path, os.environ, overrides)
        config_sources.check_files(config)
    except config_sources.ConfigError as error:
        raise CommandError(str(error), "docs/reference/configuration.md lists every key") from None
    if check:
        click.echo(f"{path}: the configuration of node {config.node.name} is sound")
        return
    from nodes.server import StartError, serve

    try:
        serve(config)
    except StartError as error:
        raise CommandError(str(error), error.hint) from None
    sys.exit(0)
