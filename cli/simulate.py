"""`mailraft chaos simulate`: a whole cell in one thread under faults that a seed draws, thousands of times over."""

from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING, Any

import click

from cli.options import json_option
from cli.output import CommandError, console, print_json, print_table, say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chaos.simulation.run import Options, Result

TRACE_LINES = 40


@click.command("simulate")
@click.option("--seeds", "seeds_text", default="1..100", show_default=True, metavar="FIRST..LAST", help="Which seeds.")
@click.option("--jobs", type=click.IntRange(1, 256), help="Processes at a time; one a core if not given.")
@click.option(
    "--seconds",
    type=click.FloatRange(1, 3600),
    default=12.0,
    show_default=True,
    help="Simulated seconds of faults; healing comes on top.",
)
@click.option("--without", multiple=True, metavar="FAULT", help="Leave this kind of fault out; may be repeated.")
@click.option("--departure", metavar="NAME", help="Put a known mistake back into the consensus: seeds must then fail.")
@click.option(
    "--profile", metavar="NAME", help="What all runs are about: mixed, members or replies; drawn if not given."
)
@click.option("--shrink", "shrinks", is_flag=True, help="Find the fewest kinds of faults that make the first failure.")
@click.option("--trace", "whole_trace", is_flag=True, help="Print every step of the run (one seed).")
@json_option
def simulate(
    seeds_text: str,
    jobs: int | None,
    seconds: float,
    without: tuple[str, ...],
    departure: str | None,
    profile: str | None,
    shrinks: bool,
    whole_trace: bool,
    as_json: bool,
) -> None:
    """Run a cell of 1 to 5 nodes in simulated time, one run a seed; the same seed is always the same run.

    Exits 0 if every seed kept every promise; with --departure, if at least one seed found the mistake.
    """
    from chaos.simulation.run import Options

    seeds, options = parsed_seeds(seeds_text), Options(seconds, without, departure, profile=profile)
    _check(options)
    if whole_trace:
        if len(seeds) != 1:
            raise click.UsageError("--trace takes one seed, as in --seeds 7.")
        options = options._replace(trace_limit=None)
    results = _run_all(seeds, options, jobs or len(os.sched_getaffinity(0)))
    failed = sorted((result for result in results if not result.ok), key=lambda result: result.seed)
    if shrinks and failed:
        failed[0] = _shrunk(failed[0], options)
    if as_json:
        print_json(_report(results, failed, departure))
    else:
        _show(results, failed, departure, whole_trace)
    if departure is None and failed:
        again = f"mailraft chaos simulate --seeds {failed[0].seed} --seconds {seconds:g} --trace"
        raise CommandError(f"{len(failed)} of {len(results)} seeds broke a promise", again)
    if departure is not None and not failed:
        raise CommandError(f"no seed found {departure}", "more seeds, or a longer run with --seconds")


def parsed_seeds(text: str) -> Sequence[int]:
    """Seeds as a command is given them. Raises click.BadParameter."""
    from chaos.simulation.seeds import parse_seeds

    try:
        return parse_seeds(text)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--seeds") from error


def _check(options: Options) -> None:
    from chaos.simulation.departures import DEPARTURES
    from chaos.simulation.faults import KINDS
    from chaos.simulation.profiles import PROFILES

    for name in options.without:
        if name not in KINDS:
            raise CommandError(f"there is no fault {name!r}", f"one of {', '.join(KINDS)}")
    if options.profile is not None and options.profile not in PROFILES:
        raise CommandError(f"there is no profile {options.profile!r}", f"one of {', '.join(PROFILES)}")
    if options.departure is not None and options.departure not in DEPARTURES:
        raise CommandError(f"there is no departure {options.departure!r}", f"one of {', '.join(DEPARTURES)}")


def _run_all(seeds: Sequence[int], options: Options, jobs: int) -> list[Result]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from chaos.simulation.seeds import run_seeds

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    results: list[Result] = []
    with Progress(*columns, console=console(), transient=True, disable=len(seeds) == 1) as progress:
        task = progress.add_task("seeds", total=len(seeds))
        for result in run_seeds(seeds, options, min(jobs, len(seeds))):
            results.append(result)
            if not result.ok and options.departure is None:
                progress.console.print(f"seed {result.seed}: {result.failure}", markup=False)
            progress.advance(task)
    return results


def _shrunk(failed: Result, options: Options) -> Result:
    from chaos.simulation.seeds import shrink

    smallest = shrink(failed, options)
    say(f"seed {failed.seed} needs no more than: {', '.join(smallest.faults) or 'no fault at all'}")
    return smallest


def _report(results: Sequence[Result], failed: Sequence[Result], departure: str | None) -> dict[str, Any]:
    return {
        "seeds": len(results),
        "failed": len(failed),
        "departure": departure,
        "rules": dict(Counter(result.rule for result in failed)),
        "simulated_s": round(sum(result.simulated_s for result in results), 3),
        "cpu_s": round(sum(result.cpu_s for result in results), 3),
        "failures": [result._asdict() for result in failed[:10]],
        "digests": {str(result.seed): result.digest for result in sorted(results)},
    }


def _show(results: Sequence[Result], failed: Sequence[Result], departure: str | None, whole_trace: bool) -> None:
    shown = results if whole_trace else failed[:1] if departure is None else ()
    for result in shown:
        click.secho(f"seed {result.seed}, {result.nodes} nodes, {result.profile}; faults: {result.faults}", bold=True)
        for line in result.trace if whole_trace else result.trace[-TRACE_LINES:]:
            click.echo(line)
    if failed:
        found = Counter(result.rule for result in failed)
        first = {result.rule: result.seed for result in reversed(failed)}
        rows = [(rule, number, first[rule]) for rule, number in found.most_common()]
        print_table(("BROKEN PROMISE", ">SEEDS", ">FIRST"), rows, "")
    simulated_s, cpu_s = sum(r.simulated_s for r in results), sum(r.cpu_s for r in results)
    kept = f"{len(results) - len(failed)} of {len(results)} seeds kept every promise"
    speed = f"{simulated_s / max(cpu_s, 0.001):.0f} a second of processor time"
    click.echo(f"{kept}; {simulated_s:.0f} simulated seconds, {speed}")
    if len(results) == 1:
        click.echo(f"{results[0].steps} steps, digest {results[0].digest}")
