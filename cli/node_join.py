"""`mailraft node join`: the folder of a new node, from a token, on the machine that it is to run on.

The key is made here and never leaves; the cell is known by its authority, which is in the token.
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import sys
from pathlib import Path
from typing import IO, Any

import click

from cli import layout
from cli.layout import PORTS, PORTS_PER_NODE, Cluster, Node
from cli.options import json_option
from cli.output import CommandError, print_json, say
from nodes.addresses import split_address
from nodes.files import write_atomically
from nodes.tls.joining_token import JoiningToken

TIMEOUT_S = 30.0
MOST_ANSWER_BYTES = 256 * 1024


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--host", required=True, help="The address or name of this machine, as the other nodes reach it.")
@click.option(
    "--base-port",
    type=click.IntRange(1024, 65535 - PORTS_PER_NODE),
    default=20000,
    show_default=True,
    help="The first port of this node.",
)
@click.option(
    "--token-file", type=click.File(), default=sys.stdin, help="The file with the token; standard input if not given."
)
@json_option
def join(folder: Path, host: str, base_port: int, token_file: IO[str], as_json: bool) -> None:
    """Make FOLDER for a node that joins a cell with a token (mailraft cluster token create)."""
    token = _token(token_file.read(16 * 1024).strip())
    node = make_folder(token, folder, host, base_port)
    if as_json:
        print_json({"name": node.name, "cell": token.cell, "config": str(node.config)})
        return
    say(f"{node.name} belongs to the cell {token.cell}; it votes once it has caught up")
    say(f"next: mailraft node run --config {node.config}")


def make_folder(token: JoiningToken, folder: Path, host: str, base_port: int) -> Node:
    """A node's folder, with a certificate that the cell gives for the token. Raises CommandError."""
    from cryptography.hazmat.primitives.asymmetric import ec

    from actors.sealing import key_lines
    from nodes.tls import contexts as tls

    if folder.exists() and any(folder.iterdir()):
        raise CommandError(f"{folder} is not empty", "an empty folder, or one that does not exist yet")
    addresses = {use: f"{host}:{base_port + offset}" for offset, use in enumerate(PORTS)}
    node = Node(token.name, folder.resolve(), addresses)
    key = ec.generate_private_key(ec.SECP256R1())
    asked = {
        "id": token.id,
        "secret": token.secret,
        "request": tls.request_of(key, node.name).decode(),
        "hosts": list(dict.fromkeys((host, *layout.certificate_hosts(node)))),
        "address": addresses["raft"],
    }
    given = _ask(token, asked)
    for private in (node.folder, node.folder / "data"):
        private.mkdir(mode=0o700, parents=True, exist_ok=True)
    others = [Node(one["name"], folder, {"raft": one["address"]}) for one in given["members"]]
    cell = Cluster(folder, given["cell"], (*(one for one in others if one.name != node.name), node))
    write_atomically(node.folder / "node.key", tls.secret_of(key), 0o600)
    write_atomically(node.folder / "node.pem", given["certificate"].encode())
    write_atomically(node.folder / "ca.pem", given["authority"].encode())
    write_atomically(node.folder / "cluster.key", key_lines(bytes.fromhex(given["cluster_key"])), 0o600)
    write_atomically(node.config, layout.node_toml(cell, node, token.admin))
    return node


def _token(text: str) -> JoiningToken:
    """Raises CommandError."""
    try:
        return JoiningToken.read(text)
    except ValueError:
        raise CommandError("that is no token", "what mailraft cluster token create printed, whole") from None


def _ask(token: JoiningToken, asked: dict[str, Any]) -> dict[str, Any]:
    """One member after the other, until one has answered. Raises CommandError."""
    failures = []
    for address in token.admin:
        try:
            status, answer = _post(token, address, asked)
        except (OSError, http.client.HTTPException, ValueError) as error:
            failures.append(f"{address}: {error}")
            continue
        if status == http.client.CREATED:
            return answer
        failures.append(f"{address}: {answer.get('detail', status)}")
        if status not in (http.client.SERVICE_UNAVAILABLE,):
            break
    text = "\n  ".join(["the cell did not take this node in:", *failures])
    raise CommandError(text, "a new token: mailraft cluster token create DIR NAME")


def _post(token: JoiningToken, address: str, asked: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """Raises OSError where what answers is not the cell; nothing was said to it then."""
    from nodes.tls.links import context_of, peer_node_name

    context = context_of(ssl.PROTOCOL_TLS_CLIENT, ssl.TLSVersion.TLSv1_3)
    context.check_hostname = False  # the cell's authority and the name of a node in the certificate count
    context.load_verify_locations(cadata=token.authority)
    with socket.create_connection(split_address(address), timeout=TIMEOUT_S) as plain:
        with context.wrap_socket(plain) as secure:
            if peer_node_name(secure, token.cell) is None:
                raise ConnectionRefusedError("what answers there is no node of the cell")
            connection = http.client.HTTPConnection(address)
            connection.sock = secure
            connection.auto_open = 0  # never a second connection behind our back, and never one in clear
            body = json.dumps(asked).encode()
            connection.request("POST", "/v1/cluster/join", body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            found = json.loads(response.read(MOST_ANSWER_BYTES))
            if not isinstance(found, dict):
                raise ValueError("an answer that is none")
            return response.status, found
