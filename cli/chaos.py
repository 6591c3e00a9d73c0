"""`mailraft chaos`: break a cluster on purpose and check what it kept. Scenarios live in chaos/scenarios."""

from __future__ import annotations

import asyncio
import shutil
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.options import json_option
from cli.output import CommandError, print_json, say
from cli.simulate import simulate

if TYPE_CHECKING:
    from chaos.report import Report
    from chaos.scenarios import Scenario
    from chaos.scenarios.settings import Settings


@click.group()
def chaos() -> None:
    """Break a cluster on purpose and check what it kept."""


chaos.add_command(simulate)


@chaos.command("list")
@json_option
def list_(as_json: bool) -> None:
    """Show the scenarios."""
    from chaos.scenarios import SCENARIOS

    if as_json:
        rows = [(name, scenario.summary, scenario.duration_s) for name, scenario in SCENARIOS.items()]
        print_json([dict(zip(("name", "summary", "duration_s"), row, strict=True)) for row in rows])
        return
    for name, scenario in SCENARIOS.items():
        click.echo(f"{name:<16} {scenario.summary} ({scenario.duration_s:g} s)")


@chaos.command("run")
@click.argument("scenario")
@click.option("--seed", type=int, default=1, show_default=True, help="The same seed: the same mail, the same schedule.")
@click.option("--duration", "duration_s", type=click.FloatRange(1), metavar="SECONDS", help="How long faults go on.")
@click.option("--rate", type=click.FloatRange(1, 2000), default=60.0, show_default=True, help="Operations a second.")
@click.option(
    "--interval",
    "interval_s",
    type=click.FloatRange(0.5),
    default=4.0,
    show_default=True,
    help="Seconds between faults.",
)
@click.option(
    "--report",
    "report_dir",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Write report.html, report.json, report.txt and history.jsonl here.",
)
@json_option
def run(
    scenario: str,
    seed: int,
    duration_s: float | None,
    rate: float,
    interval_s: float,
    report_dir: Path | None,
    as_json: bool,
) -> None:
    """Run SCENARIO on a three-node cluster of its own.

    Exits 0 only if every check passed. The cluster's folder is removed then, and kept for a look otherwise.
    """
    from chaos.scenarios import SCENARIOS
    from chaos.scenarios.settings import Settings

    chosen = SCENARIOS.get(scenario)
    if chosen is None:
        raise CommandError(f"there is no scenario {scenario!r}", f"one of {', '.join(SCENARIOS)}")
    folder = Path(tempfile.mkdtemp(prefix="mailraft-chaos.")).resolve()
    settings = Settings(seed, chosen.duration_s if duration_s is None else duration_s, folder, 3, rate, interval_s)
    report = _run_to_its_end(chosen, settings)
    if report_dir is not None:
        report.write(report_dir)
    if as_json:
        print_json(report.as_dict())
    else:
        click.echo(report.as_text())
    if not report.ok:
        raise CommandError("the cluster broke a promise", f"its folder, {folder}, with each node's log")
    shutil.rmtree(folder, ignore_errors=True)


def _run_to_its_end(scenario: Scenario, settings: Settings) -> Report:
    """Runs it; SIGINT and SIGTERM cancel it, so that it still ends its processes. Raises CommandError."""
    from chaos.cluster import ClusterError
    from chaos.observation import ObservationError

    async def run_cancellable() -> Report:
        task = asyncio.ensure_future(scenario.run(settings))
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        return await task

    say(f"seed {settings.seed}, {settings.duration_s:g} s of faults, in {settings.folder}")
    try:
        return asyncio.run(run_cancellable())
    except asyncio.CancelledError:
        shutil.rmtree(settings.folder, ignore_errors=True)
        raise CommandError("interrupted; every process of the cluster has been ended") from None
    except (ClusterError, ObservationError, OSError) as error:
        raise CommandError(f"the run could not be finished: {error}", f"its folder, {settings.folder}") from error
