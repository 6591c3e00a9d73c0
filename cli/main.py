"""Entry point of the `mailraft` command: finds the command's module and leaves the rest to it.

Nothing heavy is imported here, so that `mailraft --help` and shell completion are quick.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import click

from cli.groups import AS_JSON, OWN_PROCESS, Group


class Lazy(NamedTuple):
    """A command whose module is imported when it is called."""

    module: str
    attribute: str
    summary: str
    hidden: bool = False


COMMANDS = {
    "account": Lazy("cli.account", "account", "Add, list and delete accounts; set passwords and quotas."),
    "alias": Lazy("cli.alias", "alias", "Addresses that lead to other addresses."),
    "backup": Lazy("cli.backup", "backup", "Make, prove, list and restore backups; drop what is old or was erased."),
    "bench": Lazy("cli.bench", "bench", "Measure speed and compare with earlier runs."),
    "certificate": Lazy(
        "cli.certificate",
        "certificate",
        "Certificates that mail clients are shown, by server name; who logs in with one.",
    ),
    "chaos": Lazy("cli.chaos", "chaos", "Break a cluster on purpose and check what it kept."),
    "cluster": Lazy("cli.cluster", "cluster", "Make, start, watch and stop a cluster on this machine."),
    "completion": Lazy("cli.completion", "completion", "Print the completion script of a shell."),
    "config": Lazy("cli.config", "config", "What a node is told and by whom; check, explain and compare it."),
    "directory": Lazy("cli.directory", "directory", "Accounts as an LDAP directory has them."),
    "dkim": Lazy("cli.dkim", "dkim", "Keys that outgoing mail is signed with, and their DNS records."),
    "docs": Lazy("cli.reference", "docs", "Write the reference pages from the program.", hidden=True),
    "doctor": Lazy(
        "cli.doctor", "doctor", "Examine a domain's mail as the internet sees it, and what to put into DNS."
    ),
    "group": Lazy("cli.group", "group", "Addresses whose mail reaches every member; names in lists of rights."),
    "log": Lazy("cli.log", "log", "Look into the event log, prove it, fold it again."),
    "mailbox": Lazy("cli.mailbox", "mailbox", "Look into a mailbox, now or as it was; bring it back."),
    "node": Lazy("cli.node", "node", "Run one node, tell it anew, look into one that is stopped."),
    "policy": Lazy("cli.policy", "policy", "How a tenant's mail is treated: greylisting, rates, spam, sizes."),
    "queue": Lazy("cli.queue", "queue", "Mail that waits to be sent elsewhere."),
    "quota": Lazy("cli.quota", "quota", "What a tenant may use, what it uses, and when it is warned."),
    "region": Lazy("cli.region", "region", "Let another cell follow this one's log; follow another's."),
    "role": Lazy("cli.role", "role", "Who may administer a tenant, help its users, or read its log."),
    "route": Lazy("cli.route", "route", "Other ways out than a destination's MX: smart hosts, pools of addresses."),
    "report": Lazy("cli.report", "report", "Reports on mail authentication: ours to others, others' to us."),
    "search": Lazy("cli.search", "search", "The indexes that make searches of texts quick."),
    "send": Lazy("cli.send", "send", "Send a message from the command line."),
    "share": Lazy("cli.share", "share", "Public folders, and who may do what with whose folders."),
    "tenant": Lazy("cli.tenant", "tenant", "Customers of the platform and their domains."),
    "token": Lazy("cli.token", "token", "Tokens that let programs and people use the admin API and this command."),
    "verdicts": Lazy("cli.verdicts", "verdicts", "What is done about SPF, DKIM, ARC and DMARC."),
    "whoami": Lazy("cli.role", "whoami", "Who the cluster takes you for, and what you may do."),
}


class LazyGroup(Group):
    """A group that knows its commands by name and imports one only to run it."""

    _own_process = False

    def main(self, *args: Any, **extra: Any) -> Any:
        """As click does it, but where what is printed can not be written that is told, and the exit code is 1."""
        self._own_process = not args and extra.get("args") is None  # what to do stands in the process's own arguments
        try:
            return super().main(*args, **extra)
        except OSError as error:
            if not _was_printing(error):
                raise
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left would fail again at the end
            sys.exit(f"error: what is printed can not be written: {error.strerror}")

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        as_json = "--json" in args[: args.index("--") if "--" in args else None]
        with _told_as_json(as_json):
            found = super().make_context(info_name, args, parent, **extra)
        found.meta[AS_JSON] = as_json
        found.meta[OWN_PROCESS] = self._own_process
        return found

    def invoke(self, ctx: click.Context) -> Any:
        with _told_as_json(ctx.meta.get(AS_JSON, False)):
            return super().invoke(ctx)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        lazy = COMMANDS.get(cmd_name)
        if lazy is None:
            return None
        command: click.Command = getattr(importlib.import_module(lazy.module), lazy.attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, lazy.summary) for name, lazy in COMMANDS.items() if not lazy.hidden])


@contextmanager
def _told_as_json(as_json: bool) -> Iterator[None]:
    """Where a line has --json, what click itself refuses is told like any other error."""
    try:
        yield
    except click.UsageError as error:
        if not as_json:
            raise
        from cli.output import WrongUse

        raise WrongUse(error) from None


def _was_printing(error: OSError) -> bool:
    return any(frame.f_code is click.echo.__code__ for frame, _ in traceback.walk_tb(error.__traceback__))


def _print_version(ctx: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        click.echo(f"mailraft {version()}")
        ctx.exit()


def version() -> str:
    """The installed version; "unknown" when run from a folder without being installed."""
    try:
        return importlib.metadata.version("mailraft")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


@click.group(
    "mailraft", cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version, help="Print the version."
)
def main(**_options: Any) -> None:
    """A mail platform whose whole state is one replicated event log.

    Exit codes: 0 it did what it says, 1 it did not, 2 it was called wrongly, 3 the outcome is unknown, 4 not now:
    nothing was done, and the same may be asked again. docs/reference/errors.md has the codes that stand in brackets.
    """


if __name__ == "__main__":
    main(prog_name="mailraft")
