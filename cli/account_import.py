"""`mailraft account import`: accounts from a file, many to a record, to be taken up again where it was broken off."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from cli.options import cluster_option, json_option, open_client, size_bytes
from cli.output import FAILED, UNKNOWN, CommandError, console, counted, print_json, say

AT_ONCE = 200  # as the API takes
WITH_PASSWORDS = 25  # hashing takes tens of milliseconds each
ANSWER_S = 120.0
FIELDS = ("address", "password", "quota")
SHOWN = 10


@click.command("import")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@cluster_option
@json_option
def import_accounts(file: Path, cluster_dir: Path, as_json: bool) -> None:
    """Add the accounts of FILE: lines of JSON, or CSV with a header; fields address, password, quota ("2 GiB").

    Without a password nobody can log in to an account until one is set. What is there already is left as it is, so the
    same command goes on where it was broken off. Exit code 1: some were refused, each with its reason.
    """
    wanted = list(_read(file))
    client = open_client(cluster_dir, ANSWER_S)
    outcomes: Counter[str] = Counter()
    refused: list[dict[str, str]] = []
    try:
        for batch in _with_progress(wanted, as_json):
            found = client.change("POST", "/v1/accounts/batch", {"accounts": batch})["accounts"]
            outcomes.update(one["outcome"] for one in found)
            refused += [one for one in found if one["outcome"] == "refused"]
    except CommandError as error:
        done = f"{sum(outcomes.values())} of {len(wanted)} done, then"
        exit_code = error.exit_code if error.exit_code == UNKNOWN or not outcomes else FAILED  # 4: nothing was done
        raise CommandError(f"{done}: {error.format_message()}", "the command again", exit_code, error.code) from None
    if as_json:
        print_json({**{name: outcomes[name] for name in ("added", "exists", "refused")}, "refusals": refused})
    for one in refused[:SHOWN]:
        say(f"{one['address']}: {one['detail']}")
    if len(refused) > SHOWN:
        say(f"and {len(refused) - SHOWN} more; --json lists all")
    there, kept_out = outcomes["exists"], outcomes["refused"]
    were = f"{there} {'was' if there == 1 else 'were'} there"
    say(f"{counted(outcomes['added'], 'account')} added, {were}, {kept_out} refused")
    if refused:
        raise click.exceptions.Exit(1)


def _with_progress(wanted: list[dict[str, Any]], quiet: bool) -> Iterator[list[dict[str, Any]]]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("accounts"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    at_once = WITH_PASSWORDS if any("password" in one for one in wanted) else AT_ONCE
    with Progress(*columns, console=console(), disable=quiet) as progress:
        task = progress.add_task("", total=len(wanted))
        for at in range(0, len(wanted), at_once):
            batch = wanted[at : at + at_once]
            yield batch
            progress.advance(task, len(batch))


def _read(file: Path) -> Iterator[dict[str, Any]]:
    """Raises CommandError, naming the line."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as text:
            lines = _csv(text) if file.suffix.lower() == ".csv" else _json_lines(text)
            for number, line in lines:
                yield _account(file, number, line)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CommandError(f"{file}: can not be read: {error}") from None


def _csv(text: Any) -> Iterator[tuple[int, Any]]:
    reader = csv.DictReader(text)
    for line in reader:
        yield reader.line_num, {key: value for key, value in line.items() if value}


def _json_lines(text: Any) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(text, 1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except ValueError:
                yield number, None


def _account(file: Path, number: int, line: Any) -> dict[str, Any]:
    place = f"{file}, line {number}"
    unknown = [str(name) for name in line if name not in FIELDS] if isinstance(line, dict) else []
    if unknown:
        raise CommandError(f"{place}: {unknown[0]}: there is no such field", f"the fields are {', '.join(FIELDS)}")
    if not isinstance(line, dict) or not isinstance(line.get("address"), str):
        example = '{"address": "alice@example.test", "password": "...", "quota": "2 GiB"}'
        raise CommandError(f"{place}: it is no account", f"a line is like {example}")
    account: dict[str, Any] = {"address": line["address"]}
    if "password" in line:
        account["password"] = str(line["password"])
    if "quota" in line:
        try:
            account["quota_bytes"] = size_bytes(str(line["quota"]))
        except click.BadParameter as error:
            raise CommandError(f"{place}: quota: {error.message}") from None
    return account
