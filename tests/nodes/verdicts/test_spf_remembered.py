"""SPF evaluations that are used again: for as long as the DNS says the same, and for nobody else."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from nodes.resolver import Records, ResolverError
from nodes.verdicts import spf
from nodes.verdicts.spf import Remembered
from tests.nodes.verdicts.zone import Zone

CLIENT = "192.0.2.1"


class Keeping:
    """A zone behind a cache, as the node's resolver is one; `forget` is the end of every TTL."""

    def __init__(self, **records: str) -> None:
        self.change(**records)

    def change(self, **records: str) -> None:
        """Other records, keyed by name with _ for a dot."""
        pairs = {name.replace("_", "."): text.split(" ", 1) for name, text in records.items()}
        self.zone = Zone({name: [(kind, value)] for name, (kind, value) in pairs.items()})
        self.forget()

    def forget(self) -> None:
        self._kept: dict[tuple[str, str], Records[Any] | ResolverError] = {}

    def known(self, name: str, kind: str) -> Records[Any] | ResolverError | None:
        return self._kept.get((name, kind))

    async def lookup(self, name: str, kind: str) -> Records[Any]:
        try:
            found = Records(await self.zone.lookup(name, kind))
        except ResolverError as error:
            self._kept[name, kind] = error
            raise
        self._kept[name, kind] = found
        return found


def judged(dns: Keeping, remembered: Remembered, sender: str = "a@sender.test", client: str = CLIENT) -> spf.Spf:
    return asyncio.run(spf.judge(dns, client, sender, "mx.test", remembered=remembered))


def found(dns: Keeping, remembered: Remembered, client: str = CLIENT, domain: str = "sender.test") -> str:
    known = remembered.find(dns, client, domain)
    return "" if known is None else known.result


def test_an_evaluation_is_found_again_for_every_sender_of_the_domain_and_no_other_client() -> None:
    dns, remembered = (
        Keeping(sender_test="TXT v=spf1 include:other.test -all", other_test=f"TXT v=spf1 ip4:{CLIENT}"),
        Remembered(),
    )
    assert found(dns, remembered) == ""
    assert judged(dns, remembered).result == "pass"
    assert found(dns, remembered) == "pass"
    assert judged(dns, remembered, "b@sender.test") == judged(dns, remembered)
    assert found(dns, remembered, client="192.0.2.2") == ""
    assert judged(dns, remembered, client="192.0.2.2").result == "fail"
    assert found(dns, remembered) == "pass"


def test_an_answer_that_is_no_longer_valid_ends_what_rests_on_it() -> None:
    records = {"sender_test": "TXT v=spf1 include:other.test -all", "other_test": f"TXT v=spf1 ip4:{CLIENT}"}
    dns, remembered = Keeping(**records), Remembered()
    judged(dns, remembered)
    dns.forget()
    assert found(dns, remembered) == ""
    dns.change(**records | {"other_test": "TXT v=spf1 ip4:198.51.100.1"})
    assert judged(dns, remembered).result == "fail"
    assert found(dns, remembered) == "fail"


def test_that_there_is_no_policy_is_remembered_too_and_so_is_a_failure_while_it_is_kept() -> None:
    dns, remembered = Keeping(other_test="TIMEOUT -"), Remembered()
    assert judged(dns, remembered).result == "none"
    assert found(dns, remembered) == "none"
    assert judged(dns, remembered, "a@other.test").result == "temperror"
    assert found(dns, remembered, domain="other.test") == "temperror"


@pytest.mark.parametrize("record", ["v=spf1 exists:%{l}.sender.test -all", "v=spf1 -all exp=why.sender.test"])
def test_what_a_macro_decides_is_judged_for_each_sender(record: str) -> None:
    dns = Keeping(sender_test=f"TXT {record}", good_sender_test="A 127.0.0.2", why_sender_test="TXT not for %{s}")
    remembered = Remembered()
    bad, good = judged(dns, remembered, "bad@sender.test"), judged(dns, remembered, "good@sender.test")
    assert bad.result == "fail"
    assert bad != good
    assert found(dns, remembered) == ""


@pytest.mark.parametrize(
    "sender", ['"x@elsewhere.test"@sender.test', '"x@y@sender.test"@sender.test', '"@"@sender.test']
)
@pytest.mark.parametrize(("record", "result"), [(f"v=spf1 ip4:{CLIENT} -all", "pass"), ("v=spf1 -all", "fail")])
def test_an_at_in_a_quoted_local_part_is_no_part_of_the_domain(sender: str, record: str, result: str) -> None:
    dns, remembered = Keeping(sender_test=f"TXT {record}"), Remembered()
    assert judged(dns, remembered, sender).result == result
    assert found(dns, remembered) == result


def test_a_macro_gets_the_whole_of_a_quoted_local_part() -> None:
    dns = Keeping(
        sender_test="TXT v=spf1 exists:%{o}.%{d}.all.test -all", sender_test_sender_test_all_test="A 127.0.0.2"
    )
    assert judged(dns, Remembered(), '"x@elsewhere.test"@sender.test').result == "pass"


def test_only_so_many_evaluations_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spf, "MOST_REMEMBERED", 2)
    dns, remembered = Keeping(sender_test="TXT v=spf1 -all"), Remembered()
    clients = [f"198.51.100.{number}" for number in range(3)]
    for client in clients:
        judged(dns, remembered, client=client)
    assert [found(dns, remembered, client) for client in clients] == ["", "fail", "fail"]
