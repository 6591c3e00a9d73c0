"""`mailraft cluster rotate-ca, renew-admin`: another authority for the cell, and administrators' certificates of it.

What was done so far stands in the cell's log, and the new authority in DIR/ca/next until all is done: the command can
be interrupted anywhere and is given again. At every moment DIR and every node trust whatever the others show.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from cli.client import AdminClient
from cli.cluster_token import bring_authority
from cli.layout import Cluster, load
from cli.options import DIR_NOTE, cluster_argument, json_option, nodes_argument, open_client
from cli.output import CommandError, print_json, print_table, say
from cli.rotate_ca_steps import PATH, Wanted, retire, rotate_elsewhere, until_renewed, until_trusted
from cli.token_client import is_address
from nodes.files import replace_pair, write_atomically


@click.command("rotate-ca", epilog=DIR_NOTE)
@nodes_argument
@click.option("--status", is_flag=True, help="Only show the authorities, and how far each node is.")
@click.option(
    "--keep-old", is_flag=True, help="Go on trusting the authority before; given again without it, that ends."
)
@click.option("--cut-followers", is_flag=True, help="Although followers in other cells have certificates of it.")
@click.option("--yes", is_flag=True, help="Do not ask before the authority before is trusted no more.")
@json_option
def rotate_ca(cluster_dir: Path, status: bool, keep_old: bool, cut_followers: bool, yes: bool, as_json: bool) -> None:
    """Put another authority in the place of the cell's own, while mail flows.

    It is trusted beside the old one first; then every node makes itself a certificate of it, and this administrator
    gets one; then the old one is trusted no more. A command that was interrupted is simply given again. Mail clients
    that trust DIR/ca/ca.pem need the new file before the end, other administrators mailraft cluster renew-admin.
    Followers in other cells are not covered: they are granted anew (mailraft region grant) before the old one ends.

    With HOST:PORT a node makes the new authority, whose key is nowhere but sealed in the log, and the file in --ca is
    written anew.
    """
    if not status:
        wanted = Wanted(keep_old, cut_followers, yes)
        if is_address(cluster_dir):
            rotate_elsewhere(cluster_dir, wanted)
        else:
            _rotate(load(cluster_dir), wanted)
    standing = open_client(cluster_dir).get(PATH)
    if as_json:
        print_json(standing)
        return
    rows = [(use.replace("_", " "), standing[use]) for use in ("in_force", "next", "former") if standing[use]]
    print_table(("authority", "fingerprint"), rows, "the authority is not in the log yet")
    if standing["followers"]:
        say(f"to be granted anew before the former one ends: {', '.join(standing['followers'])}")
    if standing["next"] or standing["former"]:
        print_table(
            ("node", "trusts the next", "certificate is of the one in force"),
            [
                (one["name"], one["trusts_next"] if standing["next"] else None, one["renewed"])
                for one in standing["nodes"]
            ],
            "no nodes",
        )


@click.command("renew-admin", epilog=DIR_NOTE)
@cluster_argument
def renew_admin(cluster_dir: Path) -> None:
    """Get this administrator (DIR/admin) a new key and certificate, and DIR/ca/ca.pem as the nodes have it.

    For machines that have no key of the authority, as while another administrator rotates it.
    """
    found = load(cluster_dir)
    _renew_admin(found, AdminClient(found))
    say(f"{found.folder / 'admin'} and {found.folder / 'ca' / 'ca.pem'} are as the cell has them")


# -- step by step --------------------------------------------------------------------------------------------------


def _rotate(found: Cluster, wanted: Wanted) -> None:
    standing = _begun(found)
    if standing["next"]:
        until_trusted(AdminClient(found))
        standing = AdminClient(found).change("POST", f"{PATH}/promote")
        say("the new authority issues from now on")
    _put_in_place(found, standing["in_force"])
    _renew_admin(found, AdminClient(found))
    if standing["former"]:
        until_renewed(AdminClient(found))
        say("every node, and this administrator, has a certificate of it")
        if wanted.keep_old:
            say(f"the old one is trusted until: mailraft cluster rotate-ca {found.folder}")
            return
        retire(AdminClient(found), wanted)
        _renew_admin(found, AdminClient(found))
    _forget(found)
    say("the old authority is trusted no more")


def _begun(found: Cluster) -> dict[str, Any]:
    """How it stands once there is something to go on with."""
    client = AdminClient(found)
    bring_authority(client)
    standing: dict[str, Any] = client.get(PATH)
    ours = _made(found)
    if standing["former"] or (ours is not None and _fingerprint(ours[0]) == standing["in_force"]):
        return standing  # it is in force: what is left is to finish
    if standing["next"] and (ours is None or _fingerprint(ours[0]) != standing["next"]):
        raise CommandError("another authority is on its way, and its key is not here", "the machine that began it")
    certificate, key = ours or _make(found)
    _trust(found, certificate)
    return client.change("PUT", f"{PATH}/next", {"certificate": certificate, "key": key})  # type: ignore[no-any-return]


def _made(found: Cluster) -> tuple[str, str] | None:
    """The authority that this command made, while it is not in its place."""
    folder = found.folder / "ca" / "next"
    try:
        return (folder / "ca.pem").read_text(), (folder / "ca.key").read_text()
    except FileNotFoundError:
        return None


def _make(found: Cluster) -> tuple[str, str]:
    from nodes.tls import contexts as tls

    folder = found.folder / "ca" / "next"
    folder.mkdir(mode=0o700, exist_ok=True)
    tls.create_authority(folder, found.id)
    made = _made(found)
    assert made is not None
    return made


def _trust(found: Cluster, certificate: str) -> None:
    """Before any node shows one of its certificates, and before another node gets its files from this folder."""
    file = found.folder / "ca" / "ca.pem"
    if certificate not in file.read_text():
        write_atomically(file, (file.read_text() + certificate).encode())


def _put_in_place(found: Cluster, in_force: str) -> None:
    """Its key is where the old one's was, and the old certificate is kept: anchors of the log are checked with it."""
    made, folder = _made(found), found.folder / "ca"
    if made is None or _fingerprint(made[0]) != in_force:
        return
    others = (folder / "ca.pem").read_text().replace(made[0], "")
    if others:
        former = folder / "former"
        former.mkdir(mode=0o700, exist_ok=True)
        write_atomically(former / f"{_fingerprint(others)[:16]}.pem", others.encode())
    replace_pair(folder / "ca.pem", (made[0] + others).encode(), folder / "ca.key", made[1].encode())


def _forget(found: Cluster) -> None:
    """Last: what tells this command that it had begun."""
    for name in ("ca.key", "ca.pem"):
        (found.folder / "ca" / "next" / name).unlink(missing_ok=True)


def _renew_admin(found: Cluster, client: AdminClient) -> None:
    """A certificate of the authority in force, and the trust that the cell has. DIR/ca keeps what it can sign with."""
    from cryptography.hazmat.primitives.asymmetric import ec

    from nodes.tls import contexts as tls

    key = ec.generate_private_key(ec.SECP256R1())
    given = client.change("POST", "/v1/cluster/administrator", {"request": tls.request_of(key, "operator").decode()})
    admin = found.folder / "admin"
    write_atomically(found.folder / "ca" / "ca.pem", given["authorities"].encode())
    replace_pair(admin / "admin.pem", given["certificate"].encode(), admin / "admin.key", tls.secret_of(key))


def _fingerprint(certificates: str) -> str:
    """Of the first."""
    from actors.cell_succession import fingerprint

    return fingerprint(certificates).hex()
