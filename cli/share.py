"""`mailraft share`: public folders, who may do what with whose folders, and who may send as whom."""

from __future__ import annotations

from pathlib import Path

import click

from cli.groups import Group
from cli.options import cluster_option, json_option, open_client
from cli.output import agree, iso_time, print_json, print_table, say
from cli.paths import api_path


@click.group(cls=Group)
def share() -> None:
    """Public folders, who may do what with whose folders, and who may send as whom.

    PLACE is the address of an account, or the name of a tenant for its public folders. RIGHTS are those of RFC 4314:
    l see it, r read, s \\Seen, w other flags, i add messages, t mark as deleted, e expunge, k make folders below,
    x delete it, a administer; none: no rights any more.
    """


@share.command("list")
@click.argument("place")
@cluster_option
@json_option
def list_shared(place: str, cluster_dir: Path, as_json: bool) -> None:
    """What is shared at PLACE, and with whom."""
    found = open_client(cluster_dir).whole(api_path("/v1/shared/{}", place), "folders")
    if as_json:
        print_json(found)
        return
    rows = [
        (folder["name"], f"{'-' if line['negative'] else ''}{line['whom']}", line["rights"])
        for folder in found["folders"]
        for line in folder["rights"] or [{"whom": "nobody yet", "negative": False, "rights": ""}]
    ]
    print_table(("folder", "with", "rights"), rows, f"nothing: mailraft share grant {place} FOLDER WHOM RIGHTS")


@share.command()
@click.argument("place")
@click.argument("folder")
@click.argument("whom")
@click.argument("rights", metavar="RIGHTS|none")
@click.option("--negative", is_flag=True, help="Take these rights from what others lines give.")
@cluster_option
def grant(place: str, folder: str, whom: str, rights: str, negative: bool, cluster_dir: Path) -> None:
    """Give WHOM (an address of the same tenant, or anyone) RIGHTS to FOLDER at PLACE, in place of those they had.

    FOLDER '*' stands for every folder, those to come too: so somebody looks after another's mail.
    """
    body = {"name": folder, "whom": whom, "rights": "" if rights == "none" else rights, "negative": negative}
    given = open_client(cluster_dir).change("PUT", api_path("/v1/shared/{}/rights", place), body)
    what = given["rights"] or "no rights"
    say(f"{'taken from ' if negative else ''}{whom}: {what} ({'every folder' if folder == '*' else folder} of {place})")


@share.command()
@click.argument("tenant")
@click.argument("folder")
@cluster_option
def create(tenant: str, folder: str, cluster_dir: Path) -> None:
    """Make the public folder FOLDER of TENANT, which clients see as Public/FOLDER once somebody has a right to it."""
    open_client(cluster_dir).change("POST", api_path("/v1/tenants/{}/folders", tenant), {"name": folder})
    say(f"public folder {folder} made; nobody sees it yet: mailraft share grant {tenant} {folder} anyone lr")


@share.command()
@click.argument("tenant")
@click.argument("folder")
@click.option("--yes", is_flag=True, help="Do not ask.")
@cluster_option
def delete(tenant: str, folder: str, yes: bool, cluster_dir: Path) -> None:
    """Delete the public folder FOLDER of TENANT with the mail in it."""
    client = open_client(cluster_dir)
    agree(f"Delete the public folder {folder} of {tenant} with the mail in it?", yes)
    client.change("DELETE", api_path("/v1/tenants/{}/folders", tenant, name=folder))
    say(f"public folder {folder} deleted")


@share.command("send-as")
@click.argument("address")
@click.argument("whom")
@click.option("--on-behalf", is_flag=True, help="Not like ADDRESS itself: messages name the sender in Sender.")
@click.option("--none", "revoke", is_flag=True, help="Not any more.")
@cluster_option
def send_as(address: str, whom: str, on_behalf: bool, revoke: bool, cluster_dir: Path) -> None:
    """Let WHOM (an address of the same tenant, or group:NAME@DOMAIN) send mail as ADDRESS.

    Submission then takes ADDRESS, and the aliases that lead to it, in MAIL FROM and in From. The log says who it was
    that sent.
    """
    if on_behalf and revoke:
        raise click.UsageError("--on-behalf and --none exclude each other")
    how = "none" if revoke else "on-behalf" if on_behalf else "send-as"
    body = {"whom": whom, "how": how}
    open_client(cluster_dir).change("PUT", api_path("/v1/accounts/{}/senders", address), body)
    may = {"none": "may not send as", "on-behalf": "may send on behalf of", "send-as": "may send as"}[how]
    say(f"{whom} {may} {address}")


@share.command()
@click.argument("address")
@cluster_option
@json_option
def senders(address: str, cluster_dir: Path, as_json: bool) -> None:
    """Who may send mail as ADDRESS or on its behalf."""
    found = open_client(cluster_dir).whole(api_path("/v1/accounts/{}/senders", address), "senders")
    if as_json:
        print_json(found)
        return
    rows = [(one["whom"], one["how"], iso_time(one["since_ms"])) for one in found["senders"]]
    print_table(("who", "how", "since"), rows, f"nobody: mailraft share send-as {address} WHOM")
