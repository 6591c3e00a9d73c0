"""What mbsync makes of `mailbox restore`: what it has lost comes back to it in its next run, once, and exactly.

A message that was gone has a new UID (ADR 14): to mbsync it is a new message with the flags that it had; one whose
flags were changed is the same message with its flags back.
"""

import json
from pathlib import Path

import pytest

from tests.acceptance.maildirs import Far, Held, Message, Near
from tests.acceptance.site import Site, need

MIRA = "mira@example.test"
PASSWORD = "correct-horse-battery"
BOX, KEPT = "Projects/2026", "INBOX"
MARKS = (frozenset[str](), frozenset({"\\Seen"}), frozenset({"\\Flagged", "\\Seen"}), frozenset({"\\Answered"}))

Places = dict[tuple[str, str], tuple[int, int]]  # folder and Message-ID: UIDVALIDITY and UID


class Mirror:
    """MIRA's account, and the Maildir that mbsync keeps of it, alike."""

    def __init__(self, site: Site, folder: Path) -> None:
        self.site = site
        self.near = Near(folder)
        site.cluster.command("account", "add", MIRA, "--password-stdin", stdin=f"{PASSWORD}\n")
        with self.far() as far:
            for box in (KEPT, BOX):
                far.add(box, [Message(f"{box}-{number}@t", flags) for number, flags in enumerate(MARKS)])
        assert self.sync() == ""
        self.then, self.places = self.both()
        self.position = json.loads(site.cluster.command("log", "tail", "-n", "1", "--json"))["position"]

    def far(self) -> Far:
        self.site.cluster.wait_settled()
        return Far(self.site.endpoints("imap")[0], MIRA, PASSWORD)

    def sync(self) -> str:
        """What mbsync says, if it is content."""
        self.site.cluster.wait_settled()
        with self.near.sync(self.site.endpoints("imap")[1], MIRA, PASSWORD) as program:
            said = program.communicate(timeout=60)[0]
        return said if program.returncode else ""

    def both(self) -> tuple[Held, Places]:
        """What is there and here alike, each once; and under which UIDVALIDITY and UID it is there."""
        here, counted = self.near.held()
        with self.far() as far:
            there, counted_there, by_uid = far.held()
        assert here == there
        assert set((counted + counted_there).values()) <= {2}
        return here, {(folder, one): (validity, uid) for (folder, validity, uid), one in by_uid.items()}

    def restore(self, *arguments: str) -> None:
        self.site.cluster.command("mailbox", "restore", MIRA, "--as-of", f"#{self.position}", *arguments)
        self.site.cluster.wait_settled()


@pytest.fixture(scope="module")
def mirror(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Mirror:
    need("mbsync")
    return Mirror(site, tmp_path_factory.mktemp("mirror") / "mail")


def test_messages_and_flags_that_mbsync_has_lost_come_back_to_it(mirror: Mirror) -> None:
    with mirror.far() as far:
        far.expunge(KEPT, [f"{KEPT}-1@t", f"{KEPT}-2@t"])
        far.mark(KEPT, [f"{KEPT}-0@t"], "\\Flagged")
    assert mirror.sync() == ""
    lost, _ = mirror.both()
    assert {key for key in mirror.then if lost.get(key) != mirror.then[key]} == {
        (KEPT, f"{KEPT}-{number}@t") for number in range(3)
    }
    mirror.restore("--folder", KEPT, "--uid", str(mirror.places[KEPT, f"{KEPT}-2@t"][1]))
    assert mirror.sync() == ""
    with_one, _ = mirror.both()
    assert with_one == lost | {(KEPT, f"{KEPT}-2@t"): mirror.then[KEPT, f"{KEPT}-2@t"]}
    mirror.restore("--folder", KEPT)
    assert mirror.sync() == ""
    now, places = mirror.both()
    assert now == mirror.then
    new = {key for key in places if places[key] != mirror.places[key]}
    assert new == {(KEPT, f"{KEPT}-1@t"), (KEPT, f"{KEPT}-2@t")}
    assert min(places[key][1] for key in new) > max(uid for _, uid in mirror.places.values())


def test_a_folder_that_was_deleted_comes_back_to_mbsync_with_all_its_messages(mirror: Mirror, tmp_path: Path) -> None:
    with mirror.far() as far:
        far.client.ok(f'DELETE "{BOX}"')
    assert f"far side box {BOX} cannot be opened" in mirror.sync()
    mirror.restore("--folder", BOX)
    assert mirror.sync() == ""
    now, places = mirror.both()
    assert now == mirror.then
    assert not {places[key] for key in places if key[0] == BOX} & {mirror.places[key] for key in mirror.places}
    mirror.near = Near(tmp_path / "afresh")
    assert mirror.sync() == ""
    assert mirror.both() == (mirror.then, places)
