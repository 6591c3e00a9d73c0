"""Clients from elsewhere: a trusted peer on loopback says by XCLIENT for whom it speaks."""

from __future__ import annotations

from tests.nodes.smtp.dialogue import Dialogue

TRUSTING = {"xclient_from": ["127.0.0.1"]}  # of the [smtp] section


def client_at(port: int, address: str) -> Dialogue:
    """A session at its beginning, as from `address` (an IPv6 one with IPV6: in front); "": from this machine."""
    client = Dialogue(port)
    client.read()
    if address:
        client.ask("EHLO proxy.test")
        assert client.ask(f"XCLIENT ADDR={address}").startswith("220 ")
    client.ask("EHLO client.test")
    return client


def answer_to(port: int, address: str, recipient: str, sender: str = "sender@remote.test") -> str:
    """What a client at `address` is told when it names one recipient."""
    client = client_at(port, address)
    try:
        return client.begin(recipient, sender=sender)[0]
    finally:
        client.close()
