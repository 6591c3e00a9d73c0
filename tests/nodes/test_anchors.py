"""Signed heads: what is taken for one, and what is not."""

import base64
import datetime
from pathlib import Path
from typing import Any

import pytest

from nodes.anchors import Anchor, AnchorError, check, sign
from nodes.tls.cell_authority import create_authority, issue_admin, issue_node

HEAD = Anchor("cell", "n1", 7, "2026-11-01T10:00:00.000Z", "ab" * 32, "")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A CA, the certificate of n1 (node.pem) and of an administrator."""
    authority = create_authority(tmp_path, "cell")
    issue_node(authority, tmp_path, "cell", "n1", ["localhost"])
    issue_admin(authority, tmp_path, "cell")
    return tmp_path


def signed(folder: Path, **changes: Any) -> dict[str, Any]:
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    head = HEAD._replace(signed=now)._replace(**changes)
    return sign(head, folder / "node.pem", folder / "node.key")


def test_a_head_that_a_node_signed_is_taken(folder: Path) -> None:
    assert check(signed(folder), folder / "ca.pem")[:5] == HEAD[:5]


def test_a_head_is_taken_while_its_authority_and_the_next_are_both_trusted(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    both = tmp_path_factory.mktemp("both")
    create_authority(both, "cell")
    both.joinpath("ca.pem").write_text((both / "ca.pem").read_text() + (folder / "ca.pem").read_text())
    assert check(signed(folder), both / "ca.pem")[:5] == HEAD[:5]


@pytest.mark.parametrize("field", ["cell", "node", "position", "at", "chain", "signed"])
def test_a_head_of_which_anything_was_changed_is_refused(folder: Path, field: str) -> None:
    document = signed(folder)
    document[field] = document[field] + (1 if field == "position" else "0")
    with pytest.raises(AnchorError):
        check(document, folder / "ca.pem")


def test_a_head_that_names_another_node_than_its_certificate_is_refused(folder: Path) -> None:
    with pytest.raises(AnchorError, match="not that of n2"):
        check(signed(folder, node="n2"), folder / "ca.pem")


def test_a_head_of_another_cells_ca_is_refused(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("other")
    create_authority(other, "cell")
    with pytest.raises(AnchorError, match="not of the CA"):
        check(signed(folder), other / "ca.pem")


def test_a_head_signed_when_its_certificate_was_not_valid_is_refused(folder: Path) -> None:
    with pytest.raises(AnchorError, match="not valid"):
        check(signed(folder, signed="2001-01-01T00:00:00+00:00"), folder / "ca.pem")


def test_a_certificate_that_names_nobody_signs_nothing(folder: Path) -> None:
    document = {**signed(folder), "certificate": (folder / "ca.pem").read_text()}
    with pytest.raises(AnchorError):
        check(document, folder / "ca.pem")


@pytest.mark.parametrize(
    "damage",
    [
        {"format": 2},
        {"position": "7"},
        {"position": True},
        {"signature": "%%%"},
        {"signature": base64.b64encode(b"x").decode()},
        {"certificate": "none"},
        {"chain": "a\nb"},
    ],
)
def test_what_is_no_anchor_is_refused_and_not_thrown(folder: Path, damage: dict[str, Any]) -> None:
    with pytest.raises(AnchorError):
        check({**signed(folder), **damage}, folder / "ca.pem")
