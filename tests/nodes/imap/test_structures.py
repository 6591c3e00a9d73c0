"""Structures that are kept: found again by the next life of a node, by tenant, and gone with what is redacted."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from actors.custody import CUSTODY, Redact
from actors.mailbox import RedactMessages
from eventlog.record import digest_of
from nodes.imap import cache_file, structures
from nodes.imap.node_wide import node_wide
from nodes.imap.structures import StructureCache, structure_file
from nodes.redaction import plan_message
from tests.nodes.imap.client import RawClient
from tests.nodes.imap.node import ADMIN, Node, User

Login = Callable[[], RawClient]


def held(folder: Path) -> bytes:
    """All bytes of the files."""
    return b"".join(file.read_bytes() for file in sorted(folder.glob("*"))) if folder.exists() else b""


def alive(scenario: Coroutine[Any, Any, None]) -> None:
    asyncio.run(scenario)


async def kept(folder: Path, *texts: bytes, erased_at: int = 0) -> None:
    """One life of a node, which finds these out."""
    cache = StructureCache(file=structure_file(folder.parent, erased_at))
    for text in texts:
        cache.put("ENVELOPE", b"t" * 16, digest_of(text), text)
    await cache.close()


def found(folder: Path, text: bytes, tenant: bytes = b"t" * 16, erased_at: int = 0) -> bytes | None:
    """What the next life of a node has of it."""

    async def look() -> bytes | None:
        cache = StructureCache(file=structure_file(folder.parent, erased_at))
        try:
            return cache.get("ENVELOPE", tenant, digest_of(text))
        finally:
            await cache.close()

    return asyncio.run(look())


def test_what_was_found_out_is_there_in_the_next_life_of_the_node_for_its_tenant_alone(tmp_path: Path) -> None:
    alive(kept(tmp_path / structures.FOLDER, b"one", b"two"))
    assert found(tmp_path / structures.FOLDER, b"one") == b"one"
    assert found(tmp_path / structures.FOLDER, b"two") == b"two"
    assert found(tmp_path / structures.FOLDER, b"three") is None
    assert found(tmp_path / structures.FOLDER, b"one", tenant=b"u" * 16) is None


def test_what_waits_is_written_in_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_file, "WRITE_AFTER_S", 0.0)

    async def killed() -> None:
        cache = StructureCache(file=structure_file(tmp_path, 0))
        for number in range(3):
            cache.put("ENVELOPE", b"t" * 16, digest_of(b"%d" % number), b"%d" % number)
            while b"%d" % number not in held(tmp_path / structures.FOLDER):
                await asyncio.sleep(0.01)

    alive(killed())
    assert found(tmp_path / structures.FOLDER, b"2") == b"2"


@pytest.mark.parametrize("changed", ["parser", "machine", "erased", "damaged"])
def test_a_file_that_can_not_be_trusted_is_begun_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: str
) -> None:
    alive(kept(tmp_path / structures.FOLDER, b"one"))
    (tmp_path / "boot").write_text("another\n")
    match changed:
        case "parser":
            monkeypatch.setattr(structures, "PARSER_VERSION", structures.PARSER_VERSION + 1)
        case "machine":
            monkeypatch.setattr(cache_file, "BOOT_ID", tmp_path / "boot")
        case "damaged":
            (tmp_path / structures.FOLDER / "data.mdb").write_bytes(b"x" * 8192)
    erased_at = 7 if changed == "erased" else 0
    assert found(tmp_path / structures.FOLDER, b"one", erased_at=erased_at) is None
    alive(kept(tmp_path / structures.FOLDER, b"two", erased_at=erased_at))
    assert found(tmp_path / structures.FOLDER, b"two", erased_at=erased_at) == b"two"


def test_a_file_that_is_full_is_begun_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(structures, "FILE_BYTES", 64 * 1024)
    alive(kept(tmp_path / structures.FOLDER, *(b"%d" % number * 1000 for number in range(200))))
    alive(kept(tmp_path / structures.FOLDER, b"one"))
    assert found(tmp_path / structures.FOLDER, b"one") == b"one"


def test_a_node_whose_disk_takes_no_file_keeps_structures_in_memory(tmp_path: Path) -> None:
    (tmp_path / structures.FOLDER).write_bytes(b"a file where the folder should be")

    async def scenario() -> None:
        cache = StructureCache(file=structure_file(tmp_path, 0))
        cache.put("ENVELOPE", b"t" * 16, b"d", b"text")
        assert cache.get("ENVELOPE", b"t" * 16, b"d") == b"text"
        assert cache.get("ENVELOPE", b"t" * 16, b"other") is None
        await cache.close()

    alive(scenario())


def test_what_is_redacted_leaves_memory_and_disk(
    node: Node, user: User, login: Login, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_file, "WRITE_AFTER_S", 0.0)
    body = b"From: secret@example.org\r\nSubject: hushhush\r\n\r\nx"
    node.deliver(user, body)
    client = login()
    client.ok("SELECT INBOX")
    assert b"hushhush" in client.ok("FETCH 1 (ENVELOPE PREVIEW)")[0]
    kept_in_memory = node_wide(node.services).structures
    folder = node.log.config.data_dir / structures.FOLDER
    while b"hushhush" not in held(folder):
        node.call(asyncio.sleep(0.01))
    plan = plan_message(node.log.store, digest_of(body), True, lambda done, total: None)
    steps = ((CUSTODY, Redact(plan.events, plan.bodies, "a test")), (user.account, RedactMessages(plan.digest)))
    node.call(node.runtime.transact(steps, ADMIN))
    assert b"hushhush" not in held(folder)
    assert kept_in_memory.get("ENVELOPE", user.tenant, digest_of(body)) is None
    assert not [line for line in client.ok("UID FETCH 1:* (ENVELOPE)") if b"hushhush" in line]
