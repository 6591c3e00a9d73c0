"""`bench smtp --checks`: what is sent passes all that it is judged by, and nodes that judge are what is measured."""

import asyncio
import os
import shutil
from email import message_from_bytes, policy

import pytest

from actors.verdicts import VerdictPolicy
from cli.bench.signed_mail import DOMAIN, HOST, signed_mail
from cli.bench.smtp_rates import Load, bench_smtp
from nodes.config.node import DnsSection
from nodes.resolver import Resolver
from nodes.verdicts.judge import Arrival, Judgement, Limits, judge

needs_unbound = pytest.mark.skipif(shutil.which("unbound") is None, reason="needs unbound")


async def judged(data: bytes, nameserver: str) -> Judgement:
    resolver = Resolver(DnsSection(nameservers=(nameserver,)))
    arrival = Arrival("127.0.0.1", HOST, f"bench@{DOMAIN}", data)
    try:
        return await judge(resolver, arrival, VerdictPolicy(), Limits(8, 10.0), 0)
    finally:
        resolver.close()


@needs_unbound
def test_the_message_has_its_size_and_passes_every_judge_and_a_changed_one_does_not() -> None:
    with signed_mail(4096) as mail:
        data = mail.message.read_bytes().replace(b"\n", b"\r\n")
        nameserver = mail.environment["MAILRAFT_DNS_NAMESERVERS"]
        found = asyncio.run(judged(data, nameserver))
        changed = asyncio.run(judged(data.replace(b"Subject: A", b"Subject: B"), nameserver))
    assert abs(len(data) - 4096) < 300
    assert message_from_bytes(data, policy=policy.default)["From"] == f"Bench <bench@{DOMAIN}>"
    assert (found.spf.result, found.helo.result if found.helo else "") == ("pass", "pass")
    assert [one.result for one in found.signatures] == ["pass"]
    assert found.dmarc is not None
    assert (found.dmarc.result, found.dmarc.spf_aligned, found.dmarc.dkim_aligned) == ("pass", True, True)
    assert [one.result for one in changed.signatures] == ["fail"]


@needs_unbound
@pytest.mark.skipif(shutil.which("smtp-source") is None, reason="needs smtp-source (Debian: postfix)")
def test_rates_and_costs_are_told_of_nodes_that_judge_each_message_and_of_postfix_where_it_can_run() -> None:
    with_postfix = os.geteuid() == 0
    load = Load(messages=200, sessions=4)
    rows = {row.name: row for row in bench_smtp(load, 1, 1, with_postfix=with_postfix, with_checks=True)}
    ours = ["SMTP with DKIM and SPF accepted", "SMTP with DKIM and SPF accepted, CPU"]
    theirs = ["SMTP accepted by Postfix", "SMTP accepted by Postfix, CPU"]
    ratios = ["SMTP with DKIM and SPF against Postfix", "SMTP with DKIM and SPF against Postfix, by CPU"]
    assert list(rows) == (ours + theirs + ratios if with_postfix else ours)
    assert all(row.value > 0 for row in rows.values())
    assert {name for name, row in rows.items() if not row.higher_is_better} == {ours[1], theirs[1]} & set(rows)
