"""`mailraft log verify|anchor|rebuild|rehearse`: prove that the log is what it was, and the tables what it says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.guarded import read_in_a_child
from cli.jobs import progress_bar, run_job
from cli.options import CA_FILE, cluster_option, data_folder, json_option, node_option, open_client, source_options
from cli.output import CommandError, print_json, print_table, say
from cli.paths import api_path

if TYPE_CHECKING:
    from cli.client import AdminClient


@click.command()
@source_options
@node_option
@click.option("--all", "all_nodes", is_flag=True, help="Verify every node, and compare their chains.")
@click.option(
    "--anchor",
    "anchors",
    multiple=True,
    type=click.Path(path_type=Path, exists=True),
    help="A head that was kept elsewhere (log anchor), or a folder of them: the log must still lead to each.",
)
@json_option
@click.pass_context
def verify(
    context: click.Context,
    data: Path | None,
    cluster_dir: Path | None,
    node: str | None,
    all_nodes: bool,
    anchors: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Walk the log of a node from its start and prove that nothing in it was altered.

    With --data the folder of a node is read by this command itself: the node may be stopped. The signature of an anchor
    is checked with the CA of the cluster's folder, or with --ca. With --all a node that can not be asked does not keep
    the others from it; it is named at the end.
    """
    ca = context.meta.get(CA_FILE)
    files = [file for path in anchors for file in _anchor_files(path)]
    kept = [_read_anchor(path, _authority(ca, cluster_dir)) for path in files]
    positions = sorted({anchor["position"] for anchor in kept})
    left: list[str] = []
    if all_nodes:
        if cluster_dir is None:
            raise CommandError("--all asks the nodes of a cluster", "--cluster DIR")
        reports, left = _verify_all(cluster_dir, positions)
    elif data is not None:
        reports = {"": _verify_folder(data, positions)}
    else:
        assert cluster_dir is not None
        reports = {"": run_job(cluster_dir, _verify_path(positions), node, "verify")}
    problems = [problem for name, report in reports.items() for problem in _problems(name, report, kept)]
    problems += _differences(reports)
    if as_json:
        print_json(_verify_json(reports, [*problems, *left]))
    if problems:
        raise CommandError("\n  ".join(["the log does not prove itself:", *problems, *left]), _what_to_do(reports))
    if not as_json:
        _print_proven(reports, kept)
    if left:
        hint = f"mailraft cluster status {cluster_dir}; mailraft log verify --node NAME verifies one"
        raise CommandError("\n  ".join(["not every node was verified:", *left]), hint)


def _print_proven(reports: dict[str, dict[str, Any]], kept: list[dict[str, Any]]) -> None:
    for name, report in reports.items():
        of = f"{name}: " if name else ""
        redacted = f", {report['redactions']} parts redacted" if report.get("redactions") else ""
        click.echo(f"{of}{report['records']} records, each as it was written{redacted}; head {report['head']}")
    for anchor in kept:
        click.echo(f"the chain leads to the head that {anchor['node']} signed at position {anchor['position']}")


def _anchor_files(path: Path) -> list[Path]:
    """Raises CommandError for a folder without any: nothing would be compared, as where a disk is not mounted."""
    if not path.is_dir():
        return [path]
    found = sorted(path.glob("*.json"))
    if not found:
        raise CommandError(f"{path} has no heads (*.json)", f"mailraft log anchor --collect {path} brings them there")
    return found


@click.command()
@click.option("--position", type=click.IntRange(1, 10**18), help="Of the head; the newest where none is given.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Write into this file; it must be new.")
@click.option("--list", "list_", is_flag=True, help="Show the heads that the nodes signed from time to time.")
@click.option(
    "--collect",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Copy those that DIR lacks into it, a file each.",
)
@node_option
@cluster_option
@json_option
def anchor(
    position: int | None,
    out: Path | None,
    list_: bool,
    collect: Path | None,
    node: str | None,
    cluster_dir: Path,
    as_json: bool,
) -> None:
    """Print the head of the log, signed by a node: keep it where the cluster's keepers can not reach it.

    Nodes sign their heads from time to time by themselves (heads.every_s); --collect brings them out of the cluster,
    and `mailraft log verify --anchor DIR` compares the log with all of them.
    """
    if list_ or collect is not None:
        if position is not None or out is not None:
            raise CommandError("--list and --collect are about heads that were signed before", "leave out the rest")
        _signed_heads(cluster_dir, node, collect, as_json)
        return
    document = open_client(cluster_dir).get(api_path("/v1/log/anchor", position=position), node)
    if out is None:
        print_json(document)
        return
    try:
        with out.open("x") as file:
            file.write(json.dumps(document, indent=2) + "\n")
    except FileExistsError:
        raise CommandError(f"{out} exists", "another file") from None
    except OSError as error:
        raise CommandError(f"{out}: can not be written: {error.strerror}") from None
    say(f"{out}: position {document['position']}, chain {document['chain']}, signed by {document['node']}")


def _signed_heads(cluster_dir: Path, node: str | None, collect: Path | None, as_json: bool) -> None:
    """Shows, and copies, the heads that the nodes keep."""
    client = open_client(cluster_dir)
    found: list[dict[str, Any]] = []
    down: list[str] = []
    for name in client.node_names if node is None else (node,):
        try:
            found += _heads_of(client, name)
        except CommandError as error:
            down.append(error.of_node(name))
    added = sum(_keep_head(collect, one) for one in found) if collect is not None else 0
    if as_json:
        print_json(found)
    elif collect is not None:
        say(f"{added} heads more in {collect}")
    else:
        rows = [(one["node"], one["position"], one["at"], one["signed"], one["chain"][:16]) for one in found]
        print_table(("node", "position", "at", "signed", "chain"), rows, "no head was signed yet")
    if down:
        raise CommandError("\n  ".join(["not asked:", *down]), f"mailraft cluster status {cluster_dir}")


def _heads_of(client: AdminClient, name: str) -> list[dict[str, Any]]:
    return list(client.pages("/v1/log/heads", "heads", name))


def _keep_head(folder: Path, head: dict[str, Any]) -> bool:
    """Whether it was not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{head['node']}-{head['position']:012}.json"
    try:
        with path.open("x") as file:
            file.write(json.dumps(head, indent=2) + "\n")
    except FileExistsError:
        return False
    return True


@click.command()
@node_option
@cluster_option
@json_option
def rebuild(node: str | None, cluster_dir: Path, as_json: bool) -> None:
    """Fold a node's log from zero into fresh tables and compare them with those that it serves."""
    report = run_job(cluster_dir, "/v1/log/rebuild", node, "fold")
    _print_rebuild(report, as_json)


@click.command()
@source_options
@node_option
@json_option
def rehearse(data: Path | None, cluster_dir: Path | None, node: str | None, as_json: bool) -> None:
    """Fold a node's whole log with this version of the program and compare every table with the node's own.

    Before an upgrade: run the new version's `mailraft log rehearse --data DIR/n1` beside the old one's node.
    """
    from nodes.jobs import rebuild as fold_again

    folder = data_folder(data, cluster_dir, node)
    read_in_a_child(folder)
    with progress_bar("fold") as update:
        try:
            report = fold_again(folder, update)
        except Exception as error:
            text = f"this version can not fold the log: {type(error).__name__}: {error}"
            raise CommandError(text, "the version that wrote it, or a later one") from None
    _print_rebuild(report, as_json)


PROOFS = (verify, anchor, rebuild, rehearse)


def _print_rebuild(report: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(report)
    else:
        equal = {name: name not in report["differing"] for name in report["digests"]}
        print_table(("table", "equal", "sha256"), [(n, equal[n], d[:16]) for n, d in report["digests"].items()], "")
    if not report["equal"]:
        lines = [
            f"{one['table']}: first at {one['key']}: live {one['live'] or '-'}, fresh {one['fresh'] or '-'}"
            for one in report["first"]
        ]
        text = "\n  ".join([f"the tables are not what the log says: {', '.join(report['differing'])}", *lines])
        raise CommandError(text, "compare with another node: --node NAME")
    rate = report["events"] / report["seconds"] if report["seconds"] else 0
    say(f"{report['positions']} positions, {report['events']} events in {report['seconds']} s ({rate:.0f}/s): equal")


def _verify_path(positions: list[int]) -> str:
    return api_path("/v1/log/verify", at=",".join(map(str, positions)) or None)


def _verify_folder(data: Path, positions: list[int]) -> dict[str, Any]:
    from nodes.jobs import verify as walk

    folder = data_folder(data, None, None)
    with progress_bar("verify") as update:
        try:
            return walk(folder, update, ",".join(map(str, positions)))
        except Exception as error:
            hint = "mailraft cluster replace-node gives the node a new start; the others have what it had"
            raise CommandError(f"{folder}: can not be read: {error}", hint) from None


def _verify_all(cluster_dir: Path, positions: list[int]) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Every node by itself, and all of them at the position that the slowest has folded; and why others were not."""
    from cli.client import Unreachable

    client = open_client(cluster_dir).every_node()
    applied: dict[str, int] = {}
    reports: dict[str, dict[str, Any]] = {}
    left: list[str] = []
    for node in client.cluster.nodes:
        try:
            applied[node.name] = int(client.status(node)["applied"] or 0)
        except Unreachable as error:
            left.append(f"{node.name} does not answer: {error}")
    path = _verify_path(sorted({*positions, max(1, min(applied.values(), default=1))}))
    for name in applied:
        try:
            reports[name] = run_job(cluster_dir, path, name, f"verify {name}")
        except CommandError as error:
            left.append(error.of_node(name))
    return reports, left


def _problems(name: str, report: dict[str, Any], kept: list[dict[str, Any]]) -> Iterator[str]:
    of = f"{name}: " if name else ""
    if not report["ok"]:
        if report["first_bad"] is not None:
            yield f"{of}damaged at position {report['first_bad']}"
        yield from (f"{of}{problem}" for problem in report["problems"])
    for anchor in kept:
        found = report["chains"].get(str(anchor["position"]))
        if found is None:
            yield f"{of}the log ends before position {anchor['position']}, whose head {anchor['node']} has signed"
        elif found != anchor["chain"]:
            yield (
                f"{of}not the log that was anchored: at position {anchor['position']} its chain is {found}, "
                f"and {anchor['node']} signed {anchor['chain']}"
            )


def _what_to_do(reports: dict[str, dict[str, Any]]) -> str:
    """After problems: of one node's file, or of a log that is sound in itself."""
    bad = [name for name, report in reports.items() if not report["ok"]]
    if bad:
        which = f"stop {', '.join(bad)}" if bad != [""] else "stop this node"
        return f"{which}; the others keep the cell alive. mailraft cluster replace-node gives it a new start"
    return (
        "it is sound in itself, but not that log: compare all nodes (--all), and with heads that were kept (--anchor)"
    )


def _differences(reports: dict[str, dict[str, Any]]) -> Iterator[str]:
    positions = {position for report in reports.values() for position in report["chains"]}
    for position in sorted(positions, key=int):
        chains = {name: report["chains"].get(position) for name, report in reports.items()}
        if len(set(chains.values())) > 1:
            yield f"the nodes differ at position {position}: " + ", ".join(f"{n} {c}" for n, c in chains.items())


def _verify_json(reports: dict[str, dict[str, Any]], problems: list[str]) -> dict[str, Any]:
    keys = ("ok", "records", "head", "first_bad")
    if list(reports) == [""]:
        (report,) = reports.values()
        return {**{key: report[key] for key in keys}, "ok": not problems, "problems": problems}
    nodes = [{"name": name, **{key: report[key] for key in keys}} for name, report in reports.items()]
    return {"ok": not problems, "nodes": nodes, "problems": problems}


def _authority(ca: Path | None, cluster_dir: Path | None) -> Path | None:
    return ca if ca is not None or cluster_dir is None else cluster_dir / "ca" / "ca.pem"


def _read_anchor(path: Path, authority: Path | None) -> dict[str, Any]:
    from nodes.anchors import AnchorError, check

    if authority is None:
        raise CommandError("an anchor's signature is checked with the cell's CA", "--ca DIR/ca/ca.pem")
    try:
        return check(json.loads(path.read_text()), authority)._asdict()
    except (OSError, ValueError) as error:  # AnchorError is one
        what = "" if isinstance(error, AnchorError) else "not an anchor: "
        hint = "a file that mailraft log anchor --out wrote, and with --ca the CA of the cell that it is of"
        raise CommandError(f"{path}: {what}{error}", hint) from None
