"""The fake network: a stream keeps its order and says nothing twice; else messages are dropped, doubled, overtaken."""

import random
from typing import Any, cast

from chaos.simulation.clock import Clock, NodeLoop
from chaos.simulation.faults import NO_FAULTS, Faults
from chaos.simulation.network import Network, Transport
from chaos.simulation.trace import Trace

PEERS = {"n1": "n1.test:1", "n2": "n2.test:1"}


class Pair:
    """Two nodes of which one talks and the other listens."""

    def __init__(self, faults: Faults, seed: int = 1) -> None:
        self.clock = Clock()
        self.network = Network(self.clock, random.Random(seed), faults, Trace(self.clock))
        self.heard: list[int] = []
        self.events: list[str] = []
        self.talker = self._join("n1")
        self._join("n2")
        self.wait(1.0)

    def _join(self, name: str) -> Transport:
        callbacks: dict[str, Any] = {
            "on_message": lambda peer, message: self.heard.append(message["index"]),
            "on_connected": lambda peer: self.events.append(f"{name} has {peer}"),
            "on_disconnected": lambda peer: self.events.append(f"{name} lost {peer}"),
        }
        transport = Transport(self.network, NodeLoop(self.clock, 0), name, PEERS, callbacks)
        self.network.join(transport)
        return transport

    def wait(self, seconds: float) -> None:
        self.clock.run_until(self.clock.now + seconds)

    def say(self, count: int) -> None:
        for index in range(count):
            self.talker.send("n2", {"type": "timeout_now", "term": 1, "index": index})


def test_a_stream_is_in_order_and_whole() -> None:
    pair = Pair(NO_FAULTS._replace(delay_s=0.5))
    pair.say(50)
    pair.wait(2.0)
    assert pair.heard == list(range(50))


def test_single_messages_are_dropped_doubled_and_overtaken() -> None:
    pair = Pair(NO_FAULTS._replace(streams=False, delay_s=0.5, drop=0.2, duplicate=0.3, late=0.1, echo=0.1))
    pair.say(200)
    pair.wait(5.0)
    assert set(pair.heard) < set(range(200))
    assert len(pair.heard) > len(set(pair.heard))
    assert pair.heard != sorted(pair.heard)


def test_a_cut_that_nobody_noticed_stalls_a_stream_or_breaks_it() -> None:
    outcomes = set()
    for seed in range(20):
        pair = Pair(NO_FAULTS, seed)
        pair.network.cut([("n1", "n2")], noticed=False)
        pair.say(3)
        pair.wait(1.0)
        assert pair.heard == []
        pair.network.heal([("n1", "n2")])
        pair.wait(3.0)
        outcomes.add((tuple(pair.heard), "n1 lost n2" in pair.events))
    assert outcomes == {((0, 1, 2), False), ((), True)}


def test_a_connection_that_broke_is_made_again() -> None:
    pair = Pair(NO_FAULTS)
    pair.network.cut([("n1", "n2")], noticed=True)
    pair.wait(2.0)
    assert not pair.talker.is_connected("n2")
    pair.network.heal_all()
    pair.wait(1.0)
    pair.say(1)
    pair.wait(1.0)
    assert pair.heard == [0]
    assert pair.events.count("n1 has n2") == 2


def test_a_connection_that_is_made_again_before_its_loss_is_told_stands() -> None:
    told: list[str] = []
    callbacks: dict[str, Any] = {
        "on_connected": lambda peer: told.append(f"{peer} connected"),
        "on_disconnected": lambda peer: told.append(f"{peer} lost"),
    }
    transport = Transport(cast(Any, None), cast(Any, None), "n1", {"n2": ""}, callbacks)
    transport.connection_made("n2")
    transport.connection_made("n2")  # its clock was set back meanwhile: the loss is told after it
    transport.connection_lost("n2")
    assert told == ["n2 connected", "n2 lost", "n2 connected"]
    assert transport.is_connected("n2")
    transport.connection_lost("n2")
    assert told[-1] == "n2 lost"
    assert not transport.is_connected("n2")
