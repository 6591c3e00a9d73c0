"""Three mailraft domains and one of Postfix: mail crosses in every direction, signed, aligned, judged by others.

One cell has three nodes, the others one each. DNS is BIND's signed zone behind a validating Unbound.
"""

from __future__ import annotations

import json
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from email import message_from_string, policy
from email.message import Message
from pathlib import Path
from typing import NamedTuple, TypeVar

import dkim
import pytest

from tests.internet.cell import InternetCell
from tests.internet.internet import RESOLVER, Internet, missing
from tests.internet.judge import Judge
from tests.internet.judge import missing as missing_judge

pytestmark = pytest.mark.skipif(bool(missing() or missing_judge()), reason=missing() or missing_judge())

HOSTS = {
    "mx1.one.test": "192.0.2.11",
    "mx2.one.test": "192.0.2.12",
    "mx3.one.test": "192.0.2.13",
    "mx.two.test": "192.0.2.21",
    "mx.three.test": "192.0.2.31",
    "mx.post.test": "192.0.2.41",
}
ARRIVAL_TIMEOUT_S = 40.0
T = TypeVar("T")


class World(NamedTuple):
    one: InternetCell
    two: InternetCell
    three: InternetCell
    post: Judge

    @property
    def cells(self) -> tuple[InternetCell, ...]:
        return self.one, self.two, self.three


@pytest.fixture(scope="module")
def open_folder() -> Iterator[Path]:
    """Other programs drop root and read their files here: pytest lets nobody else into its own."""
    with tempfile.TemporaryDirectory(prefix="mailraft-internet-") as made:
        folder = Path(made)
        folder.chmod(0o755)
        yield folder


@pytest.fixture(scope="module")
def world(open_folder: Path) -> Iterator[World]:
    folder = open_folder
    with Internet(folder, HOSTS) as net:
        one = InternetCell(net, folder / "one", "one.test", list(HOSTS)[:3], 21000)
        two = InternetCell(net, folder / "two", "two.test", ["mx.two.test"], 22000)
        three = InternetCell(net, folder / "three", "three.test", ["mx.three.test"], 23000)
        post = Judge(net, folder / "post", "post.test", "mx.post.test")
        cells = (one, two, three)
        post.make()
        try:
            post.start()
            for cell in cells:
                cell.make()
                cell.start()
            net.publish("\n".join([post.records(), *(cell.records() for cell in cells)]))
            for cell in cells:
                cell.mailraft("dkim", "validate", cell.domain)
            yield World(one, two, three, post)
        finally:
            for cell in cells:
                cell.stop()
            post.stop()


def letter(sender: str, recipient: str, subject: str) -> str:
    head = f"From: <{sender}>\nTo: <{recipient}>\nSubject: {subject}\nDate: Sat, 21 Nov 2026 10:00:00 +0000\n"
    return head + f"Message-ID: <{subject}@{sender.partition('@')[2]}>\n\nHello from {sender}.\n"


def eventually(look: Callable[[], T | None], what: str) -> T:
    deadline = time.monotonic() + ARRIVAL_TIMEOUT_S
    while time.monotonic() < deadline:
        found = look()
        if found:
            return found
        time.sleep(0.3)
    raise AssertionError(f"{what} did not come within {ARRIVAL_TIMEOUT_S:.0f} s")


def arrived(cell: InternetCell, name: str, subject: str) -> Message:
    """The message of that subject, however long it takes."""

    def look() -> Message | None:
        for _, text in cell.mails(name):
            message = message_from_string(text, policy=policy.compat32)
            if message["Subject"] == subject:
                return message
        return None

    return eventually(look, f"{subject} for {name}@{cell.domain}")


def results(message: Message) -> str:
    return " ".join((message["Authentication-Results"] or "").split())


def judged_at_post(world: World, subject: str) -> list[str]:
    """What Postfix's judges wrote on the message of that subject."""

    def look() -> list[str] | None:
        found = [one for one in world.post.inbox() if one["Subject"] == subject]
        return (
            [" ".join(str(line).split()) for line in found[0].get_all("Authentication-Results", [])] if found else None
        )

    return eventually(look, f"{subject} at Postfix")


def test_mail_crosses_between_all_cells_and_every_verdict_passes(world: World) -> None:
    for sender in world.cells:
        for receiver in world.cells:
            if sender is not receiver:
                subject = f"{sender.domain}-to-{receiver.domain}"
                author, recipient = f"alice@{sender.domain}", f"bob@{receiver.domain}"
                sender.submit(author, [recipient], letter(author, recipient, subject))
    for sender in world.cells:
        for receiver in world.cells:
            if sender is not receiver:
                said = results(arrived(receiver, "bob", f"{sender.domain}-to-{receiver.domain}"))
                assert "spf=pass" in said, said
                assert said.count("dkim=pass") == 2, said
                assert "dmarc=pass" in said, said


def test_opendkim_and_opendmarc_agree_on_what_we_send(world: World) -> None:
    for cell in world.cells:
        author = f"alice@{cell.domain}"
        cell.submit(author, ["user@post.test"], letter(author, "user@post.test", f"{cell.domain}-to-post"))
    for cell in world.cells:
        lines = judged_at_post(world, f"{cell.domain}-to-post")
        assert any("dkim=pass" in line for line in lines), lines
        assert any("dmarc=pass" in line and f"header.from={cell.domain}" in line for line in lines), lines


def test_what_postfix_sends_passes_with_us(world: World) -> None:
    for cell in world.cells:
        recipient = f"alice@{cell.domain}"
        world.post.send(recipient, letter("user@post.test", recipient, f"post-to-{cell.domain}"))
    for cell in world.cells:
        said = results(arrived(cell, "alice", f"post-to-{cell.domain}"))
        assert "spf=pass" in said, said
        assert "dkim=pass" in said, said
        assert "dmarc=pass" in said, said


def test_mail_to_a_host_with_tlsa_records_goes_over_a_proved_connection(world: World) -> None:
    author = "alice@two.test"
    world.two.submit(author, ["user@post.test"], letter(author, "user@post.test", "over-dane"))
    judged_at_post(world, "over-dane")
    received = next(one for one in world.post.inbox() if one["Subject"] == "over-dane")["Received"]
    assert "using TLSv1.3" in received


def test_postfix_proves_our_certificate_by_dane(world: World) -> None:
    world.post.send("alice@three.test", letter("user@post.test", "alice@three.test", "proved"))
    arrived(world.three, "alice", "proved")
    assert "Verified TLS connection established to mx.three.test" in world.post.log


def test_a_forged_author_is_refused_as_its_domain_asks(world: World) -> None:
    words = ("swaks", "--server", HOSTS["mx.two.test"], "--local-interface", HOSTS["mx.three.test"])
    forged = ("--from", "alice@one.test", "--to", "bob@two.test", "--helo", "mx.three.test", "--body", "forged")
    done = world.two.net.run(*words, *forged, check=False)
    assert done.returncode != 0
    assert "550 5.7" in done.stdout


def from_postfix_unsigned(world: World, recipient: str, subject: str) -> None:
    """Mail that only SPF proves, from the host of a domain that asks to reject all else."""
    ways = ("--server", HOSTS["mx.two.test"], "--local-interface", HOSTS["mx.post.test"], "--helo", "mx.post.test")
    words = ("--from", "user@post.test", "--to", recipient, "--header", f"Subject: {subject}", "--body", "unsigned")
    world.two.net.run("swaks", *ways, *words, "--header", f"Message-ID: <{subject}@post.test>")


def back_at_post(world: World, text: str) -> Message:
    """What came to the user of Postfix from nobody, with this text in it."""

    def look() -> Message | None:
        return next((one for one in world.post.inbox() if one["Return-Path"] == "<>" and text in str(one)), None)

    return eventually(look, f"{text} back at Postfix")


def zone_key(world: World) -> Callable[..., bytes]:
    """How dkimpy asks for keys: by dig, of the resolver that validates."""

    def ask(name: bytes, timeout: int = 5) -> bytes:
        said = world.two.net.run("dig", "+short", f"@{RESOLVER}", name.decode(), "TXT").stdout
        return "".join(said.split('"')[1::2]).encode()

    return ask


def test_forwarded_mail_is_judged_by_its_seal_and_comes_back_to_who_sent_it(world: World) -> None:
    world.two.mailraft("alias", "add", "onward@two.test", "bob@three.test")
    from_postfix_unsigned(world, "onward@two.test", "not-trusted")
    returned = back_at_post(world, "not-trusted")  # refused for its author's DMARC, and reported by way of SRS
    assert returned.get_content_type() == "multipart/report"
    world.three.mailraft("verdicts", "set", "--trust", "two.test")
    from_postfix_unsigned(world, "onward@two.test", "vouched-for")
    message = arrived(world.three, "bob", "vouched-for")
    said = results(message)
    for verdict in ("spf=pass", "dmarc=fail", "arc=pass (two.test)", "arc=pass, sealed by two.test"):
        assert verdict in said, said
    text = next(text for _, text in world.three.mails("bob") if "vouched-for" in text)
    assert dkim.arc_verify(text.encode("latin-1"), dnsfunc=zone_key(world))[0] == b"pass"
    path = str(message["Return-Path"])
    assert path.startswith("<SRS0=")
    late = ("--from", "<>", "--to", path.strip("<>"), "--header", "Subject: late-bounce", "--body", "it came back")
    ways = ("--server", HOSTS["mx.two.test"], "--local-interface", HOSTS["mx.three.test"], "--helo", "mx.three.test")
    world.three.net.run("swaks", *ways, *late)
    back_at_post(world, "late-bounce")
    world.three.mailraft("verdicts", "set", "--distrust", "two.test")


def test_a_recipient_that_does_not_exist_comes_back_as_a_notice(world: World) -> None:
    author = "bob@one.test"
    world.one.submit(author, ["nobody@two.test"], letter(author, "nobody@two.test", "to-nobody"))

    def notice() -> Message | None:
        for _, text in world.one.mails("bob"):
            message = message_from_string(text)
            if message.get_content_type() == "multipart/report" and "nobody@two.test" in text:
                return message
        return None

    report = eventually(notice, "the notice")
    assert report["Return-Path"] == "<>"
    assert report.get_payload(1).get_content_type() == "message/delivery-status"  # type: ignore[union-attr]


def test_a_sender_that_is_killed_loses_no_mail(world: World) -> None:
    """Half a hundred messages from the three-node cell while the nodes that send are killed in turn."""
    subjects = {f"burst-{number}" for number in range(50)}
    for number, subject in enumerate(sorted(subjects)):
        world.one.submit("alice@one.test", ["alice@two.test"], letter("alice@one.test", "alice@two.test", subject))
        if number in (15, 30):
            pid = world.one.node(2 + number // 30)["pid"]
            world.one.net.run("kill", f"-{signal.SIGKILL}", str(pid))

    def all_there() -> list[str] | None:
        found = [message_from_string(text)["Subject"] for _, text in world.two.mails("alice")]
        return found if subjects <= set(found) else None

    found = [one for one in eventually(all_there, "the burst") if one in subjects]
    assert len(found) - len(subjects) <= 5  # an outcome that was lost with its sender is sent twice, and no more
    eventually(lambda: not json.loads(world.one.mailraft("queue", "list", "--json"))["items"], "an empty queue")


def test_the_doctor_finds_a_domain_in_order_and_a_wrong_one_not(world: World) -> None:
    found = json.loads(world.two.mailraft("doctor", "two.test", "--json"))
    by_area = {(one["area"], one["status"]) for one in found["findings"]}
    assert found["worst"] != "error", found
    for area in ("MX", "SPF", "DKIM", "DMARC", "DANE", "reverse DNS", "port"):
        assert (area, "ok") in by_area, found
    world.three.mailraft("tenant", "add-domain", "here", "wrong.test")
    wrong = json.loads(world.three.mailraft("doctor", "wrong.test", "--json", check=False))
    errors = {one["area"] for one in wrong["findings"] if one["status"] == "error"}
    assert {"MX", "SPF", "DKIM", "DMARC"} <= errors, wrong
    assert any(record.startswith("wrong.test. 3600 IN TXT") for one in wrong["findings"] for record in one["records"])
