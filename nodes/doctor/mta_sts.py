"""MTA-STS (RFC 8461): the record, the policy file that senders fetch over HTTPS, and whether both fit the hosts that
take the domain's mail.
"""

from __future__ import annotations

import datetime
import re
import ssl
import time
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from nodes.delivery.mta_sts import MAX_AGE_S, StsPolicy, parse_policy, parse_record
from nodes.delivery.policy_host import PATH, PolicyError, PolicyFile, PolicyHost
from nodes.doctor import hosts
from nodes.doctor.finding import Finding, PutAt, Status
from nodes.doctor.hosts import Host
from nodes.resolver import NoAnswer, NoSuchDomain, Resolver, ResolverError

AREA = "MTA-STS"
SHORT_AGE_S = 604_800  # "in the range of weeks or greater" (3.2)
WANTED_AGE_S = 2 * SHORT_AGE_S
DAY_S = 86_400.0
MOST_CHARACTERS = 100  # of a line that somebody else wrote
_PATTERN = re.compile(
    r"(?:\*\.)?[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)+", re.IGNORECASE
)
_STAMP = re.compile(r"(\d{8})(\d{6})?Z?", re.IGNORECASE)


class Seen(NamedTuple):
    """A domain as senders see it. `id` None: no sound record. `file` None: it could not be fetched, for `problem`."""

    domain: str
    texts: list[str]
    id: str | None
    file: PolicyFile | None
    problem: str


async def mta_sts(
    resolver: Resolver, policies: PolicyHost, domain: str, found: list[Host], port: int, trust: ssl.SSLContext
) -> list[Finding]:
    """found: the MX hosts; they are asked for a certificate of a known authority where the policy demands one."""
    name = f"_mta-sts.{domain}"
    try:
        texts = list(await resolver.txt(name))
    except (NoAnswer, NoSuchDomain):
        texts = []
    except ResolverError as error:
        return [Finding(AREA, "error", f"{name} could not be looked up: {error}")]
    seen = await _seen(policies, domain, texts)
    findings = list(record_findings(seen, found))
    if seen.file is None:
        return findings
    findings += policy_findings(seen, found)
    policy = _parsed(seen)
    if policy is not None and policy.mode != "none":
        findings += trust_findings(policy, await hosts.mistrusted(found, port, trust))
    return findings


async def _seen(policies: PolicyHost, domain: str, texts: list[bytes]) -> Seen:
    sound = parse_record(texts)
    shown = [one.decode("ascii", "replace")[:MOST_CHARACTERS] for one in texts if one.startswith(b"v=STSv1")]
    try:
        return Seen(domain, shown, sound, await policies.fetch(domain), "")
    except PolicyError as error:
        return Seen(domain, shown, sound, None, str(error))


def record_findings(seen: Seen, found: list[Host]) -> Iterator[Finding]:
    """The TXT record, and whether there is a policy behind it."""
    name, files = f"_mta-sts.{seen.domain}", (_wanted_file(seen.domain, found),)
    record = (_wanted_record(seen.domain),)
    if not seen.texts and seen.file is None:
        advice = f"a record, and a policy on a web server that mta-sts.{seen.domain} names; or DANE"
        yield Finding(AREA, "note", f"{name} has no record", advice, record, files)
        return
    if not seen.texts:
        text = f"{name} has no record, so that nobody looks for the policy that there is"
        yield Finding(AREA, "warning", text, "", record)
    elif seen.id is None:
        yield Finding(AREA, "error", f"not one sound record: {'; '.join(seen.texts)}", "", record)
    else:
        yield Finding(AREA, "ok", seen.texts[0])
    if seen.file is None:
        text = f"there is no policy for the record, so that senders take the domain for one without: {seen.problem}"
        advice = f"a certificate for mta-sts.{seen.domain}, and the file as text/plain, without a redirect"
        yield Finding(AREA, "error", text, advice, (), files)
    elif seen.id is not None and is_newer(seen.file, seen.id):
        text = f"the policy has changed since its id ({seen.id}) was given: senders that know it do not fetch it again"
        yield Finding(AREA, "warning", text, "a new id with each change", record)


def policy_findings(seen: Seen, found: list[Host]) -> Iterator[Finding]:
    """What the file says, line by line, and whether it names the hosts."""
    assert seen.file is not None
    files = (_wanted_file(seen.domain, found),)
    pairs = [(key.strip(), value.strip()) for key, _, value in (one.partition(":") for one in _lines(seen.file.text))]
    first = dict(reversed(pairs))
    patterns = [value for key, value in pairs if key == "mx"]
    for text, advice in (*_wrong_keys(first), *_wrong_patterns(patterns, first.get("mode", ""))):
        yield Finding(AREA, "error", f"the policy {text}", advice, (), files)
    age = first.get("max_age", "")
    if age.isdigit() and len(age) <= 10:
        yield from _age(int(age))
    policy = _parsed(seen)
    if policy is not None:
        yield from _mode(policy)
        yield from _coverage(seen.domain, policy, found)


def trust_findings(policy: StsPolicy, problems: Mapping[str, str]) -> Iterator[Finding]:
    """A host that senders do not trust gets no mail where the policy is enforced."""
    status: Status = "error" if policy.mode == "enforce" else "warning"
    for where, problem in problems.items():
        text = f"{where} fails senders that obey the policy ({policy.mode}): {problem}"
        yield Finding(AREA, status, text, "a certificate of a public authority for its name")


def is_newer(file: PolicyFile, policy_id: str) -> bool:
    """Whether the file was changed after its id was given, where an id is a time, as most are, and the host tells."""
    match = _STAMP.fullmatch(policy_id)
    if match is None or file.changed_s is None:
        return False
    try:
        given = datetime.datetime.strptime(match[1] + (match[2] or "235959"), "%Y%m%d%H%M%S")
    except ValueError:
        return False
    return file.changed_s > given.replace(tzinfo=datetime.UTC).timestamp() + DAY_S  # whatever zone it was told in


def _wrong_keys(first: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    if first.get("version") != "STSv1":
        yield f"says version: {_shown(first.get('version'))}", "version: STSv1"
    if first.get("mode") not in ("enforce", "testing", "none"):
        yield f"says mode: {_shown(first.get('mode'))}", "mode: testing, and mode: enforce once no reports complain"
    age = first.get("max_age", "")
    if not (age.isascii() and age.isdigit() and len(age) <= 10):
        yield f"says max_age: {_shown(first.get('max_age'))}", f"max_age: {WANTED_AGE_S}, in seconds"


def _wrong_patterns(patterns: list[str], mode: str) -> Iterator[tuple[str, str]]:
    if not patterns and mode != "none":
        yield "names no host", "mx: with each host of the MX records"
    for one in patterns:
        if not _PATTERN.fullmatch(one.rstrip(".")):
            yield f"says mx: {_shown(one)}, which is no name of a host", "a name, or *. and a domain"


def _age(age_s: int) -> Iterator[Finding]:
    if age_s < SHORT_AGE_S:
        text = f"the policy is kept for {age_s} seconds: who can hold senders off so long has them forget it"
        yield Finding(AREA, "warning", text, f"max_age: {WANTED_AGE_S}")
    elif age_s > MAX_AGE_S:
        text = f"the policy says max_age: {age_s}, and senders count at most {MAX_AGE_S} seconds"
        yield Finding(AREA, "note", text, f"max_age: {MAX_AGE_S}")


def _mode(policy: StsPolicy) -> Iterator[Finding]:
    kept = f"kept for {policy.max_age_s} seconds, for {', '.join(policy.mx) or 'no host'}"
    match policy.mode:
        case "enforce":
            yield Finding(AREA, "ok", f"the policy is enforced, {kept}")
        case "testing":
            advice = "mode: enforce, once no reports complain (TLS-RPT)"
            yield Finding(AREA, "warning", f"the policy is in testing: mail goes wherever it is led, {kept}", advice)
        case "none":
            advice = "mode: testing; or no record, once senders have forgotten it"
            yield Finding(AREA, "note", "the policy says that there is none", advice)


def _coverage(domain: str, policy: StsPolicy, found: list[Host]) -> Iterator[Finding]:
    """RFC 8461 4.1, by the sender's own rule."""
    if policy.mode == "none":
        return
    status: Status = "error" if policy.mode == "enforce" else "warning"
    for host in found:
        if not policy.allows(host.name):
            text = f"the policy ({policy.mode}) does not name {host.name}, which is an MX of the domain"
            files = (_wanted_file(domain, found, policy.mode),)
            yield Finding(AREA, status, text, f"mx: {host.name}, and a new id", (_wanted_record(domain),), files)
    for pattern in policy.mx:
        if found and not any(policy._replace(mx=(pattern,)).allows(host.name) for host in found):
            yield Finding(AREA, "note", f"the policy says mx: {pattern}, and no MX is called so")


def _parsed(seen: Seen) -> StsPolicy | None:
    assert seen.file is not None
    try:
        return parse_policy(seen.file.text, seen.id or "", 0.0)
    except PolicyError:
        return None


def _wanted_record(domain: str) -> str:
    return f'_mta-sts.{domain}. 3600 IN TXT "v=STSv1; id={time.strftime("%Y%m%d%H%M%S", time.gmtime())}"'


def _wanted_file(domain: str, found: list[Host], mode: str = "testing") -> PutAt:
    hosts_wanted = "".join(f"mx: {host.name}\n" for host in found) or "mx: the host of the MX record\n"
    text = f"version: STSv1\nmode: {mode}\n{hosts_wanted}max_age: {WANTED_AGE_S}\n"
    return PutAt(f"https://mta-sts.{domain}{PATH}", text)


def _lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if ":" in line]


def _shown(text: str | None) -> str:
    if text is None:
        return "nothing"
    return "".join(c if c.isprintable() else "?" for c in text[:MOST_CHARACTERS]) or "nothing"
