"""`mailraft queue`: mail that waits to be sent elsewhere, how it does, and what can be done about it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

from cli.groups import Group
from cli.jobs import progress_bar
from cli.options import cluster_option, json_option, open_client
from cli.output import CommandError, counted, iso_time, print_json, print_table, say, size_text
from cli.paths import api_path

STATES = ("waiting", "scheduled", "deferred", "sending", "held", "throttled", "suspended")
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
EVERY = "*"
ACTIONS = "/v1/queue/actions"
MOST_LISTED = 1_000_000
PART = 500  # messages that one request changes


def _age(_ctx: click.Context, _parameter: click.Parameter, text: str | None) -> int | None:
    if text is None:
        return None
    number, unit = text[:-1], text[-1:]
    if unit.isdigit():
        number, unit = text, "s"
    if not number.isdigit() or unit not in _UNITS_S:
        raise click.BadParameter(f'{text!r} is not an age, as in "90s", "30m", "4h" or "2d".')
    return int(number) * _UNITS_S[unit]


_FILTERS = (
    click.option("--domain", help="For this destination domain."),
    click.option("--sender", help='From this sender; "" is the sender of bounces.'),
    click.option("--recipient", help="To this address."),
    click.option("--state", type=click.Choice(STATES), help="In this state."),
    click.option("--older", "older_s", metavar="AGE", callback=_age, help='Queued longer ago than this, as in "2h".'),
)


def _filters(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(_FILTERS):
        command = option(command)
    return command


def _chosen(filters: dict[str, Any]) -> dict[str, str]:
    return {key: str(value) for key, value in filters.items() if value is not None}


@click.group(cls=Group)
def queue() -> None:
    """Mail that waits to be sent elsewhere."""


@queue.command("list")
@_filters
@click.option("--limit", type=click.IntRange(1, 1_000_000), default=1000, show_default=True, help="At most so many.")
@cluster_option
@json_option
def list_queue(cluster_dir: Path, as_json: bool, limit: int, **filters: Any) -> None:
    """List the messages that wait, by destination domain, oldest first."""
    items = list(_listed(open_client(cluster_dir), _chosen(filters), limit))
    if as_json:
        print_json({"items": items})
        return
    rows = (
        (
            item["domain"],
            item["sender"] or "<>",
            _recipients(item),
            item["size"],
            item["state"],
            item["attempts"],
            _time(item["next_ms"]),
            item["held_by"],
            item["id"],
        )
        for item in items
    )
    columns = ("domain", "from", "to", ">bytes", "state", ">tried", "next attempt", "sent by", "id")
    print_table(columns, rows, "the queue is empty" if not _chosen(filters) else "the queue has no such message")
    if len(items) == limit:
        say(f"the first {limit}; --limit shows more, mailraft queue stats counts all")


def _listed(client: Any, chosen: dict[str, str], limit: int) -> Iterator[dict[str, Any]]:
    after = None
    while limit > 0:
        page = client.get(api_path("/v1/queue", **chosen, limit=min(limit, 1000), after=after))
        yield from page["items"]
        limit -= len(page["items"])
        after = page.get("next")
        if not after:
            return


@queue.command()
@click.argument("item_id", metavar="ID")
@cluster_option
@json_option
def show(item_id: str, cluster_dir: Path, as_json: bool) -> None:
    """Show the message ID, which waits, with what each server said."""
    item = open_client(cluster_dir).get(api_path("/v1/queue/items/{}", item_id))
    if as_json:
        print_json(item)
        return
    facts = {
        "from": item["sender"] or "<>",
        "domain": item["domain"],
        "state": item["state"] + (f" ({item['held_by']} sends it)" if item["held_by"] else ""),
        "suspended": item.get("suspended_because"),
        "size": size_text(item["size"]),
        "queued": _time(item["queued_ms"]),
        "tried": counted(item["attempts"], "time"),
        "may have been sent": f"{counted(item['possible_duplicates'], 'time')} more than is known",
        "next attempt": _time(item["next_ms"]),
        "given up": _time(item["expires_ms"]),
        "route": item["route"],
        "body": f"sha256 {item['sha256']}",
        "session": item["session"],
    }
    if not item["possible_duplicates"]:
        del facts["may have been sent"]
    for name, value in facts.items():
        if value:
            click.echo(f"{name + ':':<20}{value}")
    rows = [
        (one["address"], one["state"], one["enhanced"] or None, one["host"] or None, one["reason"] or None)
        for one in item["recipients"]
    ]
    click.echo()
    print_table(("recipient", "state", "status", "server", "said"), rows, "")


@queue.command()
@click.argument("domain", required=False)
@cluster_option
@json_option
def stats(domain: str | None, cluster_dir: Path, as_json: bool) -> None:
    """Count what waits for each domain, why, since when, and how much of a week's mail came back."""
    found = open_client(cluster_dir).whole(api_path("/v1/queue/stats", domain=domain or None), "domains")
    if as_json:
        print_json(found)
        return
    if found["all_suspended"]:
        say("all sending is suspended: mailraft queue resume --all")
    rows = (
        (
            one["domain"],
            one["items"],
            size_text(one["bytes"]),
            _time(one["oldest_ms"]),
            _how(one),
            one["last_7_days"]["delivered"],
            one["last_7_days"]["failed"],
            one["last_7_days"]["returned"],
            f"{one['bounce_rate'] * 100:.1f} %" if one["bounce_rate"] is not None else None,
            one["last_7_days"]["unknown"] + one["last_7_days"]["taken_over"],
            one["reasons"][0]["reason"] if one["reasons"] else None,
        )
        for one in found["domains"]
    )
    columns = ("domain", ">waiting", ">size", "oldest", "state", ">delivered", ">failed", ">returned", ">bounced",
               ">doubtful", "most frequent reason")  # fmt: skip
    print_table(columns, rows, "nothing waits, and nothing was sent in the last week")


def _how(one: dict[str, Any]) -> str:
    if one["suspended"]:
        return "suspended"
    if one["throttled_until_ms"]:
        return f"throttled until {_time(one['throttled_until_ms'])}"
    return ", ".join(f"{count} {state}" for state, count in one["states"].items()) or "idle"


def _on_items(name: str, text: str, done: str) -> None:
    """A command that does `name` to messages that are named, or that filters choose."""

    @queue.command(name, help=text)
    @click.argument("ids", nargs=-1, metavar="[ID]...")
    @_filters
    @click.option("--all", "everything", is_flag=True, help="Every message there is.")
    @cluster_option
    @json_option
    def command(ids: tuple[str, ...], everything: bool, cluster_dir: Path, as_json: bool, **filters: Any) -> None:
        _act(cluster_dir, name, ids, filters, everything, done, as_json)


def _act(
    cluster_dir: Path,
    action: str,
    ids: tuple[str, ...],
    filters: dict[str, Any],
    everything: bool,
    done: str,
    as_json: bool,
    **more: str,
) -> None:
    """Raises CommandError unless all that were named were changed."""
    chosen = _chosen(filters)
    if (bool(ids) + bool(chosen) + everything) != 1:
        raise CommandError(
            "name messages by ID, or by one of the filters, or give --all", f"mailraft queue {action} --help"
        )
    client, what = open_client(cluster_dir, 600.0), {"action": action, **more}
    answer = client.change("POST", ACTIONS, {**what, "ids": list(ids)}) if ids else _in_parts(client, what, chosen)
    if as_json:
        print_json(answer)
    for one in answer["refused"]:
        say(f"{one['id']}: {one['reason']}")
    say(f"{counted(answer['done'], 'message')} {done}")
    if answer["missing"]:
        raise CommandError(f"not in the queue: {', '.join(answer['missing'])}", "mailraft queue list")
    if answer["refused"]:
        hint = "mailraft queue release" if action == "retry" else "the command again in a moment"
        raise CommandError(f"{counted(len(answer['refused']), 'message')} not changed", hint)


def _in_parts(client: Any, what: dict[str, str], chosen: dict[str, str]) -> dict[str, Any]:
    """The same to all that filters choose, so many at a time, so that one sees how far it is."""
    total: dict[str, Any] = {"done": 0, "refused": [], "missing": []}
    with progress_bar(what["action"]) as update:
        ids = [item["id"] for item in _listed(client, chosen, MOST_LISTED)]
        for start in range(0, len(ids), PART):
            answer = client.change("POST", ACTIONS, {**what, "ids": ids[start : start + PART]})
            total["done"] += answer["done"]
            total["refused"] += answer["refused"]  # what is missing was sent, or taken out, meanwhile
            update(min(start + PART, len(ids)), len(ids))
    return total


_on_items("retry", "Try messages now, by ID or filter, and end the throttles of their domains.", "due now")
_on_items(
    "hold", "Keep messages, by ID or filter, from being sent, and from expiring, until they are released.", "held"
)
_on_items("release", "Send messages, by ID or filter, that were held or were to go later.", "released")
_on_items("delete", "Delete messages, by ID or filter; nobody is told.", "deleted")


@queue.command()
@click.argument("ids", nargs=-1, metavar="[ID]...")
@_filters
@click.option("--all", "everything", is_flag=True, help="Every message there is.")
@click.option("--reason", default="", help="What the senders are told.")
@cluster_option
@json_option
def bounce(
    ids: tuple[str, ...], everything: bool, reason: str, cluster_dir: Path, as_json: bool, **filters: Any
) -> None:
    """Give messages up, by ID or filter, and tell their senders."""
    _act(cluster_dir, "bounce", ids, filters, everything, "given up", as_json, reason=reason)


@queue.command()
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--to", "route", required=True, metavar="HOST[:PORT]", help='The next hop; "" for where they would go.')
@_filters
@click.option("--all", "everything", is_flag=True, help="Every message there is.")
@cluster_option
@json_option
def reroute(
    ids: tuple[str, ...], everything: bool, route: str, cluster_dir: Path, as_json: bool, **filters: Any
) -> None:
    """Send messages, by ID or filter, to another server than that of their domain."""
    _act(cluster_dir, "reroute", ids, filters, everything, "rerouted", as_json, route=route)


def _domain_of(domain: str | None, everything: bool) -> str:
    if (domain is not None) == everything:
        raise CommandError("name a domain, or give --all")
    return EVERY if everything else str(domain)


@queue.command()
@click.argument("domain", required=False)
@click.option("--all", "everything", is_flag=True, help="Every domain.")
@click.option("--reason", default="", help="For those who look at it later.")
@cluster_option
@json_option
def suspend(domain: str | None, everything: bool, reason: str, cluster_dir: Path, as_json: bool) -> None:
    """Send nothing more to DOMAIN until it is resumed."""
    name = _domain_of(domain, everything)
    client = open_client(cluster_dir)
    answer = client.change("POST", api_path("/v1/queue/domains/{}/suspend", name), {"reason": reason})
    if as_json:
        print_json(answer)
    say(f"{_called(name)} {'is' if answer['changed'] else 'was already'} suspended")


@queue.command()
@click.argument("domain", required=False)
@click.option("--all", "everything", is_flag=True, help="Every domain; one that is suspended by itself stays so.")
@cluster_option
@json_option
def resume(domain: str | None, everything: bool, cluster_dir: Path, as_json: bool) -> None:
    """Send to DOMAIN again."""
    name = _domain_of(domain, everything)
    answer = open_client(cluster_dir).change("POST", api_path("/v1/queue/domains/{}/resume", name), {})
    if as_json:
        print_json(answer)
    say(f"{_called(name)} {'is sent again' if answer['changed'] else 'was not suspended'}")


def _called(name: str) -> str:
    return "all mail" if name == EVERY else f"mail for {name}"


def _recipients(item: dict[str, list[dict[str, str]]]) -> str:
    return ", ".join(recipient["address"] for recipient in item["recipients"])


def _time(at_ms: int | None) -> str | None:
    return iso_time(at_ms) if at_ms else None
