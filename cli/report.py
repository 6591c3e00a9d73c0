"""`mailraft report`: reports on mail authentication, ours to others and others' to us."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import click

from cli.groups import Group
from cli.options import cluster_option, json_option, open_client
from cli.output import iso_time, print_json, print_table, say
from cli.paths import api_path

DAY_MS = 86_400_000
SHORT_ID = 16  # the time takes twelve of it
KINDS = ("dmarc", "tls", "arf")


@click.group(cls=Group)
def report() -> None:
    """Reports on mail authentication: ours to others (DMARC, TLS), others' to us (DMARC, TLS, abuse)."""


@report.command("set")
@click.option("--from", "sender", metavar="ADDRESS", help="Who reports to others, of a domain of this cell.")
@click.option("--organisation", metavar="TEXT", help="The organisation's name in reports.")
@click.option(
    "--address", "addresses", metavar="ADDRESS", multiple=True, help="Where reports come in; may be repeated."
)
@click.option("--stop", is_flag=True, help="Collect and send no reports any more.")
@cluster_option
def set_reporting(
    sender: str | None, organisation: str | None, addresses: tuple[str, ...], stop: bool, cluster_dir: Path
) -> None:
    """Say who reports, and where reports come in; what is not given stays.

    Before --from is set nothing is collected. Each --address must be an account or alias of this cell.
    """
    wanted: dict[str, Any] = {"sender": "" if stop else sender, "organisation": organisation}
    wanted = {name: value for name, value in wanted.items() if value is not None}
    if addresses:
        wanted["addresses"] = list(addresses)
    if not wanted:
        raise click.UsageError("What is to be set? Give one of the options.")
    open_client(cluster_dir).change("PUT", "/v1/reports/settings", wanted)
    say("reports: changed")


@report.command()
@cluster_option
@json_option
def settings(cluster_dir: Path, as_json: bool) -> None:
    """Show who reports to others, and where reports come in."""
    found = open_client(cluster_dir).get("/v1/reports/settings")
    if as_json:
        print_json(found)
        return
    rows = [("from", found["sender"] or "nobody: no reports are collected"), ("organisation", found["organisation"])]
    rows.append(("addresses", ", ".join(found["addresses"]) or "none"))
    print_table(("setting", "value"), rows, "")


@report.command("list")
@click.option("--kind", type=click.Choice(KINDS), help="Only these.")
@click.option("--limit", type=click.IntRange(1, 2000), default=100, show_default=True, help="The newest so many.")
@cluster_option
@json_option
def list_reports(kind: str | None, limit: int, cluster_dir: Path, as_json: bool) -> None:
    """List what others have reported, the newest first."""
    path = api_path("/v1/reports", kind=kind)
    found = list(islice(open_client(cluster_dir).pages(path, "reports"), limit))
    if as_json:
        print_json({"reports": found})
        return
    rows = (
        (one["id"][:SHORT_ID], one["kind"], one["organisation"], one["domain"], _span(one), _totals(one["totals"]))
        for one in found
    )
    nothing = "nobody has reported: mailraft report set --address, and name that address in DMARC and TLSRPT records"
    print_table(("id", "kind", "by", "domain", "about", "result"), rows, nothing)


@report.command()
@click.argument("report_id", metavar="ID")
@cluster_option
@json_option
def show(report_id: str, cluster_dir: Path, as_json: bool) -> None:
    """Show what others have reported, one report whole. ID may be shortened."""
    found = open_client(cluster_dir).get(api_path("/v1/reports/received/{}", report_id))
    if as_json:
        print_json(found)
        return
    content = found["content"]
    told = [("kind", found["kind"]), ("by", found["organisation"]), ("id", found["report_id"])]
    told += [("domain", found["domain"]), ("about", _span(found)), ("came to", found["address"])]
    told += [
        (name, value) for part in ("policy", "feedback", "message") for name, value in content.get(part, {}).items()
    ]
    told += [(name, value) for name, value in found["totals"].items()]
    print_table(("", "value"), told, "")
    rows = content.get("rows", [])
    if rows:
        print_table(
            tuple(f">{name}" if name == "count" else name for name in rows[0]), [tuple(r.values()) for r in rows], ""
        )


@report.command()
@cluster_option
@json_option
def collected(cluster_dir: Path, as_json: bool) -> None:
    """List the reports to others that are being collected; each is sent when its day (UTC) is over."""
    found = list(open_client(cluster_dir).pages("/v1/reports/collected", "reports"))
    if as_json:
        print_json({"reports": found})
        return
    rows = ((_day(one["day"]), one["kind"], one["domain"], one["lines"], one["left_out"]) for one in found)
    print_table(("day", "kind", "domain", ">lines", ">left out"), rows, "nothing is collected")


@report.command()
@click.option("--limit", type=click.IntRange(1, 2000), default=100, show_default=True, help="The newest so many.")
@cluster_option
@json_option
def sent(limit: int, cluster_dir: Path, as_json: bool) -> None:
    """List the reports to others that were sent, or that nobody wanted, the newest first."""
    found = list(islice(open_client(cluster_dir).pages("/v1/reports/sent", "reports"), limit))
    if as_json:
        print_json({"reports": found})
        return
    rows = (
        (_day(one["day"]), one["kind"], one["domain"], one["results"], one["outcome"], ", ".join(one["recipients"]))
        for one in found
    )
    print_table(("day", "kind", "domain", ">results", "outcome", "to"), rows, "no report was finished yet")


@report.command()
@click.option("--today", is_flag=True, help="What is collected of this day too; the rest of it is another report.")
@cluster_option
@json_option
def send(today: bool, cluster_dir: Path, as_json: bool) -> None:
    """Send now what is due. Without this command that happens by itself, every day after midnight (UTC)."""
    outcomes = open_client(cluster_dir).change("POST", "/v1/reports/send", {"today": today})["outcomes"]
    if as_json:
        print_json({"outcomes": outcomes})
        return
    print_table(("outcome", ">reports"), sorted(outcomes.items()), "nothing was due")


def _span(one: dict[str, Any]) -> str:
    if not one["begin_s"]:
        return iso_time(one["at_ms"])
    return f"{iso_time(one['begin_s'] * 1000)[:10]} to {iso_time(one['end_s'] * 1000)[:10]}"


def _totals(totals: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in totals.items())


def _day(day: int) -> str:
    return iso_time(day * DAY_MS)[:10]
