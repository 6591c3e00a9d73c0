"""Normalised names, and claims on them."""

import pytest

from actors.errors import InvalidName, NameTaken, NotAllowed
from actors.names import (
    ClaimName,
    ReleaseName,
    holder,
    name_stream,
    normalise_address,
    normalise_domain,
    normalise_tenant_name,
)
from tests.actors.stage import Stage

TENANT, ALICE, BOB = b"t" * 16, b"a" * 16, b"b" * 16
CLAIM = ClaimName("address:alice@example.test", TENANT, ALICE, "account")


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ("example.test", "example.test"),
        ("EXAMPLE.Test.", "example.test"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("BÜCHER.example", "xn--bcher-kva.example"),
        ("bu\u0308cher.example", "xn--bcher-kva.example"),
        ("faß.example", "xn--fa-hia.example"),
        ("_dmarc.example.test", "_dmarc.example.test"),
        ("[192.0.2.1]", "[192.0.2.1]"),
        ("[IPv6:2001:DB8::1]", "[ipv6:2001:db8::1]"),
    ],
)
def test_domains_are_stored_as_a_labels_in_lower_case(given: str, stored: str) -> None:
    assert normalise_domain(given) == stored


@pytest.mark.parametrize(
    "given",
    ["", ".", "a..b", "-a.test", "a-.test", "a b.test", "x" * 64 + ".test", "a." * 130, "\ud800.test", "a\n.test"],
)
def test_what_is_no_domain_is_refused(given: str) -> None:
    with pytest.raises(InvalidName):
        normalise_domain(given)


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ("Alice@Example.TEST", "alice@example.test"),
        ('"alice"@example.test', "alice@example.test"),
        (r'"al\ice b"@example.test', "alice b@example.test"),
        ('"a@b"@example.test', "a@b@example.test"),
        ("Jose\u0301@example.test", "jos\u00e9@example.test"),
        ("JOSÉ@bücher.example", "jos\u00e9@xn--bcher-kva.example"),
    ],
)
def test_addresses_are_stored_in_nfc_without_case_or_needless_quotes(given: str, stored: str) -> None:
    assert normalise_address(given) == stored
    assert normalise_address(stored) == stored


@pytest.mark.parametrize(
    "given",
    [
        "",
        "alice",
        "@example.test",
        "alice@",
        '""@example.test',
        "a\0@example.test",
        "\ud800@example.test",
        "x" * 65 + "@example.test",
    ],
)
def test_what_is_no_address_is_refused(given: str) -> None:
    with pytest.raises(InvalidName):
        normalise_address(given)


@pytest.mark.parametrize("given", ["", "-a", "a-", "a b", "a/b", "ä", "x" * 64])
def test_what_is_no_tenant_name_is_refused(given: str) -> None:
    with pytest.raises(InvalidName):
        normalise_tenant_name(given)


def test_each_name_has_a_stream_of_its_own() -> None:
    assert name_stream("address:alice@example.test") != name_stream("domain:alice@example.test")


def test_a_claimed_name_has_a_holder(stage: Stage) -> None:
    assert holder(stage.view) is None
    stage.do(CLAIM)
    assert holder(stage.view) == (TENANT, ALICE, "account")


def test_a_name_that_is_held_can_not_be_claimed(stage: Stage) -> None:
    stage.do(CLAIM)
    with pytest.raises(NameTaken):
        stage.decide(ClaimName(CLAIM.name, TENANT, BOB, "alias"))


@pytest.mark.parametrize("local", ["al\u200bice", "\u202ealice", "ali\u00adce", "a@@#7"])
def test_no_new_mailbox_looks_like_another_or_like_a_moment(stage: Stage, local: str) -> None:
    with pytest.raises(InvalidName):
        stage.decide(ClaimName(f"address:{local}@example.test", TENANT, BOB, "account"))


def test_a_claim_guards_the_holder_so_that_two_can_not_both_commit(stage: Stage) -> None:
    stage.decide(CLAIM)
    assert [(guard.key, guard.version) for guard in stage.guards] == [(b"H", 0)]


def test_of_two_claims_folded_the_first_stands(stage: Stage) -> None:
    first, second = stage.decide(CLAIM), stage.decide(ClaimName(CLAIM.name, TENANT, BOB, "account"))
    stage.fold(*first, *second)
    assert holder(stage.view) == (TENANT, ALICE, "account")


def test_a_released_name_can_be_claimed_again(stage: Stage) -> None:
    stage.do(CLAIM)
    stage.do(ReleaseName(CLAIM.name, ALICE))
    stage.do(ClaimName(CLAIM.name, TENANT, BOB, "alias"))
    assert holder(stage.view) == (TENANT, BOB, "alias")


def test_only_the_holder_releases_a_name(stage: Stage) -> None:
    with pytest.raises(NotAllowed):
        stage.decide(ReleaseName(CLAIM.name, ALICE))
    stage.do(CLAIM)
    with pytest.raises(NotAllowed):
        stage.decide(ReleaseName(CLAIM.name, BOB))
