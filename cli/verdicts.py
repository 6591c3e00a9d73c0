"""`mailraft verdicts`: what is done about SPF, DKIM, ARC and DMARC."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from actors.verdicts import CHOICES
from cli.groups import Group
from cli.options import cluster_option, json_option, open_client
from cli.output import print_json, print_table, say
from cli.paths import api_path


@click.group(cls=Group)
def verdicts() -> None:
    """What is done about SPF, DKIM, ARC and DMARC.

    Whose mail is judged at all is each node's configuration: verdicts.judge.
    """


@verdicts.command()
@cluster_option
@json_option
def show(cluster_dir: Path, as_json: bool) -> None:
    """Show the cell's policy and the tenants that have a mode of their own."""
    found = open_client(cluster_dir).get("/v1/verdicts")
    if as_json:
        print_json(found)
        return
    policy: dict[str, Any] = found["policy"]
    rows = [(name.replace("_", "-"), policy[name]) for name in CHOICES]
    rows.append(("trusted sealers", ", ".join(policy["sealers"]) or "none"))
    rows += [(f"dmarc of tenant {name}", mode) for name, mode in sorted(found["tenants"].items())]
    rows.append(("judged", {"off": "nobody", "remote": "clients on other machines"}.get(found["judge"], "everybody")))
    print_table(("policy", "value"), rows, "")


@verdicts.command("set")
@click.option("--dmarc", type=click.Choice(CHOICES["dmarc"]), help="Reject and quarantine as asked, or only mark.")
@click.option(
    "--on-temporary",
    type=click.Choice(CHOICES["on_temporary"]),
    help="Where the DNS did not answer and rejecting might be right: take the mail, or put it off (451).",
)
@click.option(
    "--ambiguous-author", type=click.Choice(CHOICES["ambiguous_author"]), help="Mail with more than one From field."
)
@click.option(
    "--partial-signatures",
    type=click.Choice(CHOICES["partial_signatures"]),
    help="DKIM signatures that leave out a part of the body (l=).",
)
@click.option("--trust", metavar="DOMAIN", multiple=True, help="Believe the ARC seals of DOMAIN; may be repeated.")
@click.option("--distrust", metavar="DOMAIN", multiple=True, help="Believe them no longer; may be repeated.")
@cluster_option
def set_policy(trust: tuple[str, ...], distrust: tuple[str, ...], cluster_dir: Path, **choices: str | None) -> None:
    """Change the cell's policy; what is not given stays as it is."""
    wanted: dict[str, Any] = {name: value for name, value in choices.items() if value is not None}
    if trust or distrust:
        wanted |= {"trust": list(trust), "distrust": list(distrust)}
    if not wanted:
        raise click.UsageError("What is to be changed? Give one of the options.")
    open_client(cluster_dir).change("PUT", "/v1/verdicts", wanted)
    say("the policy is changed; it holds for mail from now on")


@verdicts.command()
@click.argument("name")
@click.argument("mode", type=click.Choice([*CHOICES["dmarc"], "inherit"]))
@cluster_option
def tenant(name: str, mode: str, cluster_dir: Path) -> None:
    """Enforce DMARC for mail to the tenant NAME, or only mark it; "inherit" is as the cell has it.

    A message to several tenants is refused only where each of them enforces.
    """
    open_client(cluster_dir).change("PUT", api_path("/v1/verdicts/tenants/{}", name), {"dmarc": mode})
    say(f"dmarc of mail to {name}: {mode}")
