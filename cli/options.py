"""Options that several commands share."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.output import CommandError

if TYPE_CHECKING:
    from cli.client import AdminClient
    from eventlog.store import Store

_cluster_folder = click.option(
    "--cluster",
    "cluster_dir",
    type=click.Path(path_type=Path),
    envvar="MAILRAFT_CLUSTER",
    show_envvar=True,
    metavar="DIR|HOST:PORT",
    required=True,
    help="Folder of the cluster; or where a node's admin API is, with a token.",
)


CA_FILE = "mailraft.ca_file"  # in a context's `meta`: what --ca names


def _keep(ctx: click.Context, parameter: click.Parameter, value: Path | None) -> None:
    ctx.meta[f"mailraft.{parameter.name}"] = value


_token_file = click.option(
    "--token-file",
    type=click.Path(path_type=Path),
    envvar="MAILRAFT_TOKEN_FILE",
    show_envvar=True,
    metavar="FILE",
    expose_value=False,
    callback=_keep,
    help="Come with the token in this file, not with the folder's certificate; or set MAILRAFT_TOKEN.",
)
_ca_file = click.option(
    "--ca",
    "ca_file",
    type=click.Path(path_type=Path),
    envvar="MAILRAFT_CA",
    show_envvar=True,
    metavar="FILE",
    expose_value=False,
    callback=_keep,
    help="The CA of the nodes at HOST:PORT (DIR/ca/ca.pem); the system's if not given.",
)


def token_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """How to come in: `--token-file` and `--ca`, which open_client() finds by itself."""
    return _token_file(_ca_file(command))


def cluster_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--cluster`, and how to come in."""
    return _cluster_folder(token_options(command))


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")


def _given(_ctx: click.Context, _parameter: click.Parameter, folder: Path | None) -> Path:
    if folder is None:
        raise click.UsageError("DIR is missing: name the cluster's folder, or set MAILRAFT_CLUSTER.")
    return folder


def _place(metavar: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    folder = click.Path(path_type=Path)
    return click.argument(
        "cluster_dir", metavar=metavar, type=folder, envvar="MAILRAFT_CLUSTER", required=False, callback=_given
    )


cluster_argument = _place("[DIR]")


def nodes_argument(command: Callable[..., Any]) -> Callable[..., Any]:
    """The same for what needs nothing of the folder, so that nodes at HOST:PORT can be asked with a token."""
    return _place("[DIR|HOST:PORT]")(token_options(command))


DIR_NOTE = "DIR may be left out where the environment variable MAILRAFT_CLUSTER names it."


class AtCluster(click.Command):
    """A command of DIR and a name: where MAILRAFT_CLUSTER names the first, what is given alone is the name."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        place = os.environ.get("MAILRAFT_CLUSTER")
        return super().parse_args(ctx, [place, *args] if place and self._is_without_place(ctx, args) else args)

    def _is_without_place(self, ctx: click.Context, args: list[str]) -> bool:
        from cli.token_client import is_address

        try:
            found, _, _ = self.make_parser(ctx).parse_args(list(args))
        except click.UsageError:  # it is told where it is parsed again
            return False
        first, last = (one for one in self.params if isinstance(one, click.Argument))
        place, name = (found.get(str(one.name)) for one in (first, last))  # no text where it is not given
        if not isinstance(place, str):
            return ctx.resilient_parsing  # a shell completes the name, then
        if isinstance(name, str):
            return False
        return last.required or not (Path(place).exists() or is_address(Path(place)))


def complete_node(ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """The names of a cluster's nodes, for a shell; none where no cluster is named."""
    from cli.layout import load

    folder = ctx.params.get("cluster_dir") or os.environ.get("MAILRAFT_CLUSTER")
    if not folder:
        return []
    try:
        nodes = load(Path(folder)).nodes
    except CommandError:
        return []
    return [node.name for node in nodes if node.name.startswith(incomplete)]


node_option = click.option(
    "--node",
    metavar="NAME",
    shell_complete=complete_node,
    help="Ask this node only; otherwise the first that answers.",
)


data_option = click.option(
    "--data",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    metavar="FOLDER",
    help="Read this node's folder instead (DIR/n1), whether it runs or not.",
)
_cluster_or_data = click.option(
    "--cluster",
    "cluster_dir",
    type=click.Path(path_type=Path),
    envvar="MAILRAFT_CLUSTER",
    show_envvar=True,
    metavar="DIR|HOST:PORT",
    help="Folder of the cluster; or where a node's admin API is, with a token.",
)


def source_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--cluster`, with a token or without, or `--data`; one must be given, and a folder that is named goes first."""

    @functools.wraps(command)
    def checked(*arguments: Any, data: Path | None, cluster_dir: Path | None, **options: Any) -> Any:
        if data is None and cluster_dir is None:
            raise click.UsageError(
                "Whose log? Name a cluster (--cluster DIR, or MAILRAFT_CLUSTER) or a node's folder (--data DIR/n1)."
            )
        return command(*arguments, data=data, cluster_dir=cluster_dir, **options)

    return data_option(_cluster_or_data(token_options(checked)))


def data_folder(data: Path | None, cluster_dir: Path | None, node: str | None) -> Path:
    """The folder with a node's database: the one given or its `data`, else that of a cluster's node.

    Raises CommandError where there is no database.
    """
    from cli.layout import load

    if data is None:
        assert cluster_dir is not None
        found = load(cluster_dir)
        data = (found.node(node) if node is not None else found.nodes[0]).folder
    for folder in (data, data / "data"):
        if (folder / "data.mdb").is_file():
            return folder
    raise CommandError(f"{data}: there is no database (data.mdb)", "a node's folder, as DIR/n1")


@contextlib.contextmanager
def open_data(data: Path) -> Iterator[Store]:
    """The database in a node's folder, for reading. Raises CommandError."""
    from cli.guarded import read_in_a_child
    from eventlog.store import open_for_reading

    folder = data_folder(data, None, None)
    read_in_a_child(folder)
    try:
        with open_for_reading(folder) as store:
            yield store
    except (click.ClickException, OSError):
        raise
    except Exception as error:  # whatever comes of damage, out of LMDB or out of what was read
        text = f"{folder}: can not be read: {type(error).__name__}: {error}"
        raise CommandError(text, f"mailraft log verify --data {folder} names what is damaged") from None


def size_bytes(text: str) -> int:
    """A number of bytes above 0, or one with a unit, as in the configuration. Raises click.BadParameter."""
    from pydantic import TypeAdapter, ValidationError

    from nodes.config.node import Size

    try:
        found = int(TypeAdapter(Size).validate_python(text))
    except ValidationError:
        found = 0
    if not 0 < found < 2**63:
        raise click.BadParameter(f'{text!r} is not a number of bytes above 0, or one with a unit, as in "50 MiB".')
    return found


password_option = click.option(
    "--password-stdin", is_flag=True, help="Read the password from the first line of standard input; no prompt."
)


def read_password(from_stdin: bool) -> str:
    """The password, typed twice or read from standard input. Raises CommandError."""
    if from_stdin:
        password = sys.stdin.readline().rstrip("\r\n")
        if not password:
            raise CommandError(
                "standard input held no password", "printf '%s' \"$PASSWORD\" | mailraft ... --password-stdin"
            )
        return password
    if not sys.stdin.isatty():
        raise CommandError("no terminal to ask for a password", "--password-stdin")
    return str(click.prompt("Password", hide_input=True, confirmation_prompt=True))


def open_client(cluster_dir: Path, timeout_s: float | None = None) -> AdminClient:
    """An AdminClient for the cluster in this folder, or for the nodes at host:port. Raises CommandError."""
    from cli.client import ANSWER_TIMEOUT_S, AdminClient
    from cli.layout import load
    from cli.token_client import TokenClient, is_address, read_token

    meta = ctx.meta if (ctx := click.get_current_context(silent=True)) is not None else {}
    token = read_token(meta.get("mailraft.token_file"))
    timeout_s = timeout_s or ANSWER_TIMEOUT_S
    if is_address(cluster_dir):
        return TokenClient.at(str(cluster_dir), meta.get(CA_FILE), token, timeout_s=timeout_s)
    if token is not None:
        return TokenClient.of_folder(load(cluster_dir), token, timeout_s=timeout_s)
    return AdminClient(load(cluster_dir), timeout_s=timeout_s)
