"""`mailraft chaos`: break a cluster on purpose and check what it kept. Scenarios live in chaos/scenarios."""

from __future__ import annotations

import asyncio
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.groups import Group
from cli.options import json_option, open_client
from cli.output import SPINNER_COLUMNS, CommandError, console, one_line, print_json, print_table, say
from cli.simulate import parsed_seeds, simulate

if TYPE_CHECKING:
    from chaos.checkers import Check
    from chaos.harness import Scenario
    from chaos.history import History
    from chaos.report import Report
    from chaos.site import Settings

ALL = "all"
LOOK_S = 0.5


@dataclass(frozen=True)
class Wanted:
    """What the options say of every run."""

    duration_s: float | None
    rate: float
    interval_s: float
    nodes: int
    namespaces: bool
    report_dir: Path | None


@dataclass(frozen=True)
class Ended:
    """One run of a suite; `report` is None for one that could not be finished, or was skipped."""

    scenario: str
    seed: int
    verdict: str
    report: Report | None = None
    why: str = ""

    @property
    def ok(self) -> bool:
        return self.verdict in ("clean", "skipped")


@click.group(cls=Group)
def chaos() -> None:
    """Break a cluster on purpose and check what it kept."""


chaos.add_command(simulate)


@chaos.command("list")
@json_option
def list_(as_json: bool) -> None:
    """Show the faults and the scenarios that are made of them; what this machine lacks stands beside them."""
    from chaos.faults import FAULTS
    from chaos.scenarios import SCENARIOS

    if as_json:
        print_json(
            {
                "faults": [
                    {"name": kind.name, "summary": kind.summary, "missing": kind.missing()} for kind in FAULTS.values()
                ],
                "scenarios": [
                    {
                        "name": one.name,
                        "summary": one.summary,
                        "duration_s": one.duration_s,
                        "faults": list(one.faults),
                        "missing": "; ".join(one.missing()),
                    }
                    for one in SCENARIOS.values()
                ],
            }
        )
        return
    print_table(("fault", "what it does"), ((k.name, _with_lack(k.summary, k.missing())) for k in FAULTS.values()), "")
    click.echo()
    rows = ((s.name, f"{s.duration_s:g}", _with_lack(s.summary, "; ".join(s.missing()))) for s in SCENARIOS.values())
    print_table(("scenario", ">seconds", "what happens"), rows, "")


def _with_lack(summary: str, lack: str) -> str:
    return f"{summary} (not here: {lack})" if lack else summary


def complete_scenario(_ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """The names of scenarios, for a shell."""
    from chaos.scenarios import SCENARIOS

    return [name for name in (*SCENARIOS, ALL) if name.startswith(incomplete)]


@chaos.command("run")
@click.argument("scenario", required=False, shell_complete=complete_scenario)
@click.option(
    "--seed",
    "--seeds",
    "seeds_text",
    default="1",
    show_default=True,
    metavar="SEEDS",
    help="Which seeds: 7, 1..3 or 3,5,8.",
)
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
@click.option("--nodes", type=click.Choice(["3", "5"]), default="3", show_default=True, help="How many nodes.")
@click.option("--namespaces", is_flag=True, help="As root: each node in a network namespace, where packets are lost.")
@click.option(
    "--report",
    "report_dir",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Write report.html, report.json, report.txt, history.jsonl here; of several runs, each in its own folder.",
)
@click.option(
    "--cluster",
    "cluster_dir",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="A cluster that runs, for --read-only-checks; nothing is done to it.",
)
@click.option("--read-only-checks", is_flag=True, help="Only compare the nodes of --cluster with each other.")
@click.option(
    "--accounts",
    type=click.IntRange(0, 1_000_000),
    default=100,
    show_default=True,
    help="Mailboxes that --read-only-checks compares at most, chosen by the seed.",
)
@json_option
def run(
    scenario: str | None,
    seeds_text: str,
    duration_s: float | None,
    rate: float,
    interval_s: float,
    nodes: str,
    namespaces: bool,
    report_dir: Path | None,
    cluster_dir: Path | None,
    read_only_checks: bool,
    accounts: int,
    as_json: bool,
) -> None:
    """Run SCENARIO, or all of them, on a cluster of its own; or look at one that runs.

    The same seed gives the same mail and the same schedule of faults. Exits 0 only if every check of every run passed.
    A cluster's folder is removed then, and kept for a look otherwise. With --cluster DIR --read-only-checks nothing is
    broken and nothing written: the nodes' logs, tables and mailboxes are proven and compared.
    """
    from chaos.scenarios import SCENARIOS

    if read_only_checks or cluster_dir is not None:
        if scenario is not None or cluster_dir is None or not read_only_checks:
            raise click.UsageError("--cluster DIR and --read-only-checks go together, without a scenario.")
        _look_at(cluster_dir, accounts, parsed_seeds(seeds_text)[0], as_json)
        return
    if scenario is None:
        raise click.UsageError("SCENARIO is missing: mailraft chaos list shows them.")
    if scenario != ALL and scenario not in SCENARIOS:
        raise CommandError(f"there is no scenario {scenario!r}", f"one of {', '.join(SCENARIOS)}, or {ALL}")
    seeds = parsed_seeds(seeds_text)
    wanted = Wanted(duration_s, rate, interval_s, int(nodes), namespaces, report_dir)
    chosen = [one for one in SCENARIOS.values() if one.in_all] if scenario == ALL else [SCENARIOS[scenario]]
    if len(chosen) == len(seeds) == 1:
        _run_one(chosen[0], seeds[0], wanted, as_json)
    else:
        _run_many([(one, seed) for one in chosen for seed in seeds], wanted, as_json)


def _look_at(cluster_dir: Path, accounts: int, seed: int, as_json: bool) -> None:
    """The read-only checks. Raises CommandError if one fails."""
    from chaos.read_only import inspect
    from chaos.report.page import check_state
    from cli.layout import load

    found = load(cluster_dir)
    terminal = console()
    with terminal.status("looking") as line:

        def progress(what: str, done: int, total: int) -> None:
            line.update(one_line(f"{what}: {done} of {total}", terminal.width - SPINNER_COLUMNS))

        checks = inspect(found, open_client(cluster_dir), accounts, seed, progress)
    if as_json:
        print_json([_check_json(check) for check in checks])
    else:
        for check in checks:
            click.echo(f"{check_state(check):<5} {check.promise}")
            for text in (*(f"{one.node}: {one.text}" for one in check.violations), *check.undecided):
                click.echo(f"      {text}")
    if not all(check.ok for check in checks):
        raise CommandError("the nodes are not what they should be", "docs/operations.md, Replacing a damaged node")


def _check_json(check: Check) -> dict[str, Any]:
    violations = [violation._asdict() for violation in check.violations]
    undecided = {"undecided": list(check.undecided)} if check.undecided else {}
    return {"promise": check.promise, "ok": check.ok, "violations": violations, **undecided}


def _run_one(scenario: Scenario, seed: int, wanted: Wanted, as_json: bool) -> None:
    if lacks := scenario.missing(wanted.namespaces):
        raise CommandError(f"{scenario.name} can not be run here: {'; '.join(lacks)}", "mailraft chaos list")
    folder, report = _run(scenario, seed, wanted)
    if wanted.report_dir is not None:
        report.write(wanted.report_dir)
    if as_json:
        print_json(report.as_dict())
    else:
        click.echo(report.as_text())
    if not report.ok:
        what = "the cluster broke a promise" if report.verdict == "VIOLATED" else "the run was not judged whole"
        raise CommandError(what, f"its folder, {folder}, with each node's log")
    shutil.rmtree(folder, ignore_errors=True)


def _run_many(runs: list[tuple[Scenario, int]], wanted: Wanted, as_json: bool) -> None:
    """One after the other; a table at the end, and an error if one was not clean."""
    ended = []
    for scenario, seed in runs:
        ended.append(_run_of_many(scenario, seed, wanted))
        say(f"{scenario.name}, seed {seed}: {ended[-1].verdict}{': ' if ended[-1].why else ''}{ended[-1].why}")
    if as_json:
        print_json([_ended_json(one) for one in ended])
    else:
        columns = ("scenario", ">seed", "verdict", ">done", ">unknown", ">refused", ">recovery (median, most)")
        print_table(columns, map(_ended_row, ended), "nothing was run")
    bad = [f"{one.scenario} with seed {one.seed}" for one in ended if not one.ok]
    if bad:
        raise CommandError(f"not clean: {', '.join(bad)}", "mailraft chaos run SCENARIO --seed SEED --report DIR")


def _run_of_many(scenario: Scenario, seed: int, wanted: Wanted) -> Ended:
    if lacks := scenario.missing(wanted.namespaces):
        return Ended(scenario.name, seed, "skipped", why="; ".join(lacks))
    try:
        folder, report = _run(scenario, seed, wanted)
    except Interrupted:
        raise
    except CommandError as error:
        return Ended(scenario.name, seed, "unfinished", why=str(error))
    if wanted.report_dir is not None:
        report.write(wanted.report_dir / f"{scenario.name}-{seed}")
    if not report.ok:
        return Ended(scenario.name, seed, report.verdict, report, str(folder))
    shutil.rmtree(folder, ignore_errors=True)
    return Ended(scenario.name, seed, "clean", report)


def _ended_json(ended: Ended) -> dict[str, Any]:
    facts = {"scenario": ended.scenario, "seed": ended.seed, "verdict": ended.verdict, "why": ended.why}
    return facts | ({"report": ended.report.as_dict()} if ended.report is not None else {})


def _ended_row(ended: Ended) -> tuple[object, ...]:
    if ended.report is None:
        return (ended.scenario, ended.seed, ended.verdict, None, None, None, None)
    said = ended.report.as_dict()
    counts, recovery = said["attempts"], said["recovery"]
    times = f"{recovery['median_s']:.2f} s, {recovery['max_s']:.2f} s" if "median_s" in recovery else None
    done = (counts["acknowledged"], counts["unknown"], counts["refused"])
    return (ended.scenario, ended.seed, ended.verdict, *done, times)


class Interrupted(CommandError):
    """Ctrl-C, or the same from a service manager."""


def _run(scenario: Scenario, seed: int, wanted: Wanted) -> tuple[Path, Report]:
    """Runs it; SIGINT and SIGTERM cancel it, so that it still ends its processes. Raises CommandError."""
    from chaos.cluster import ClusterError
    from chaos.harness import run as run_scenario
    from chaos.history import History
    from chaos.network import NetworkError
    from chaos.observation import ObservationError
    from chaos.site import Settings

    folder = Path(tempfile.mkdtemp(prefix="mailraft-chaos.")).resolve()
    duration_s = scenario.duration_s if wanted.duration_s is None else wanted.duration_s
    settings = Settings(seed, duration_s, folder, wanted.nodes, wanted.rate, wanted.interval_s, wanted.namespaces)
    history = History()

    async def run_cancellable() -> Report:
        task = asyncio.ensure_future(run_scenario(scenario, settings, history))
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        return await task

    say(f"{scenario.name}, seed {seed}, {duration_s:g} s of faults, in {folder}")
    try:
        with _shown(scenario, settings, history):
            return folder, asyncio.run(run_cancellable())
    except asyncio.CancelledError:
        shutil.rmtree(folder, ignore_errors=True)
        raise Interrupted("interrupted; every process of the cluster has been ended") from None
    except (ClusterError, NetworkError, ObservationError, OSError) as error:
        raise CommandError(f"the run could not be finished: {error}", f"its folder, {folder}") from error


@contextmanager
def _shown(scenario: Scenario, settings: Settings, history: History) -> Iterator[None]:
    """A line on the terminal that says what goes on, if there is one."""
    terminal = console()
    if not terminal.is_terminal:
        yield
        return
    ended = threading.Event()

    def follow() -> None:
        while not ended.wait(LOOK_S):
            last = history.timeline[-1] if history.timeline else None
            said = f"{last.at_s:.0f} s: {last.what} {last.node} {last.detail}" if last else "starting"
            line.update(one_line(f"{scenario.name}, seed {settings.seed}, {said}", terminal.width - SPINNER_COLUMNS))

    with terminal.status("starting") as line:
        follower = threading.Thread(target=follow, daemon=True)
        follower.start()
        try:
            yield
        finally:
            ended.set()
            follower.join()
