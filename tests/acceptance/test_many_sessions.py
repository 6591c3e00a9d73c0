"""Many sessions on one mailbox, at three nodes: no client is ever lied to about a number, and all end alike."""

import random
import ssl

import pytest

from tests.acceptance.mirror import Mirror
from tests.acceptance.site import CAROL, Site

STEPS = 200
KEYWORDS = ("\\Seen", "\\Flagged", "Work", "Later")


def _step(mirror: Mirror, rng: random.Random, name: str) -> None:
    """Something that a person does: arriving, marking, deleting, moving away, looking, going and coming back."""
    known = [number for number, uid in enumerate(mirror.messages, 1) if uid is not None]
    kind = rng.choice(("append", "append", "store", "store", "delete", "expunge", "move", "look", "look", "leave"))
    if kind == "append" or not known:
        mirror.do(f"APPEND {name} {{20+}}\r\nSubject: {rng.randrange(1000):04}\r\n\r\nx\r\n".encode())
        return
    number = rng.choice(known)
    uid = mirror.messages[number - 1]
    match kind:
        case "store":
            mode = rng.choice(("+", "-", ""))
            mirror.do(f"STORE {number} {mode}FLAGS ({rng.choice(KEYWORDS)})")
        case "delete":
            mirror.do(f"UID STORE {uid} +FLAGS{rng.choice(('', '.SILENT'))} (\\Deleted)")
            # A silent one is not told; who wants to know asks.
            mirror.do(f"UID FETCH {uid} (FLAGS)")
        case "expunge":
            mirror.do("EXPUNGE")
        case "move":
            mirror.do(f"MOVE {number} Trash")
        case "look":
            mirror.do("NOOP")
            mirror.learn()
        case "leave":
            mirror.leave()
            mirror.select(name)


@pytest.mark.parametrize("seed", [1])
def test_no_client_is_lied_to_about_a_number_and_all_end_alike(site: Site, seed: int) -> None:
    rng = random.Random(seed)
    tls = ssl.create_default_context(cafile=str(site.ca))
    name = f"Storm{seed}"
    endpoints = site.endpoints("imaps")
    first = Mirror(endpoints[0], tls, CAROL, site.password, qresync=False)
    first.client.ok(f"CREATE {name}")
    site.cluster.wait_settled()
    mirrors = [
        first,
        *(Mirror(one, tls, CAROL, site.password, qresync) for one in endpoints for qresync in (True, False)),
    ]
    for mirror in mirrors:
        mirror.select(name)
    for _ in range(STEPS):
        _step(rng.choice(mirrors), rng, name)
    site.cluster.wait_settled()
    for mirror in mirrors:
        mirror.do("NOOP")
        mirror.learn()
    fresh = Mirror(endpoints[1], tls, CAROL, site.password, qresync=False)
    fresh.select(name)
    assert fresh.messages
    for mirror in mirrors:
        assert mirror.messages == fresh.messages
        assert mirror.flags == fresh.flags
        if mirror.qresync:
            mirror.leave()
            mirror.select(name)
            assert mirror.flags == fresh.flags
    for mirror in (*mirrors, fresh):
        mirror.client.close()
