"""A name server on loopback over UDP and TCP, made from the text of a zone file: the far end of a resolver.

    with DnsServer("example.test. MX 10 mx.example.test.\\nmx.example.test. A 192.0.2.1") as server:
        config = DnsSection(nameservers=(server.address,))
        server.misbehave("example.test", "silent")

It holds any number of domains and answers as a resolver does, aliases followed. What a name does wrong is said by name;
`secure` makes it claim DNSSEC validation (AD), as a validating resolver would.
"""

from __future__ import annotations

import socket
import socketserver
import struct
import threading
import time
from collections.abc import Iterable
from types import TracebackType
from typing import Literal, Self

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset
import dns.zonefile

Fault = Literal["silent", "slow", "servfail", "refused", "truncated", "wrong-id", "wrong-question", "garbage"]
TTL_S = 300
SLOW_S = 0.5
TRIES = 20  # to find a port that is free for both UDP and TCP
CHAIN = 8


class DnsServer:
    """Answers from a zone text with absolute names, one record a line: `name [ttl] TYPE data`.

    asked: each question so far, as "name. TYPE". `all_fault`: what it does wrong with whatever it is asked.
    secure: True, or the names (with all below them) that it calls validated.
    """

    def __init__(
        self,
        zone: str = "",
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        all_fault: Fault | None = None,
        secure: bool | Iterable[str] = False,
        negative_ttl_s: int = TTL_S,
    ) -> None:
        self._rrsets = _parsed(zone)
        self._faults: dict[dns.name.Name, Fault] = {}
        self._negative_ttl_s = negative_ttl_s
        self._lock = threading.Lock()
        self.all_fault = all_fault
        self.secure = secure if isinstance(secure, bool) else [_absolute(one) for one in secure]
        self.asked: list[str] = []
        self._udp, self._tcp = _bound(host, port, self)
        self.port: int = self._udp.server_address[1]
        self.address = f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"

    def __enter__(self) -> Self:
        for server in (self._udp, self._tcp):
            threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _tb: TracebackType | None
    ) -> None:
        for server in (self._udp, self._tcp):
            server.shutdown()
            server.server_close()

    def add(self, zone: str) -> None:
        """More records; those of a name and type that is there take the place of the old ones."""
        with self._lock:
            self._rrsets |= _parsed(zone)

    def remove(self, name: str) -> None:
        """The name does not exist any more."""
        with self._lock:
            self._rrsets = {key: rrset for key, rrset in self._rrsets.items() if key[0] != _absolute(name)}

    def misbehave(self, name: str, fault: Fault | None) -> None:
        """What is done wrong with questions about `name`, from now on; None: nothing."""
        with self._lock:
            self._faults.pop(_absolute(name), None)
            if fault is not None:
                self._faults[_absolute(name)] = fault

    def reply(self, data: bytes, *, over_tcp: bool) -> bytes | None:
        """The answer's bytes; None for silence."""
        query = dns.message.from_wire(data)
        question = query.question[0]
        with self._lock:
            self.asked.append(f"{question.name.to_text().lower()} {dns.rdatatype.to_text(question.rdtype)}")
            fault = self._faults.get(question.name, self.all_fault)
            answer = self._answer(query)
        if fault == "silent":
            return None
        if fault == "slow":
            time.sleep(SLOW_S)
        return _spoilt(answer, fault, over_tcp)

    def _answer(self, query: dns.message.Message) -> dns.message.Message:
        answer = dns.message.make_response(query, recursion_available=True)
        answer.flags |= dns.flags.AA
        name, kind = query.question[0].name, query.question[0].rdtype
        for _ in range(CHAIN):
            rrset = self._rrset(name, kind)
            if rrset is not None:
                answer.answer.append(rrset)
                break
            alias = self._rrset(name, dns.rdatatype.CNAME)
            if alias is None:
                self._deny(answer, name)
                break
            answer.answer.append(alias)
            name = alias[0].target
        if self._is_secure(query.question[0].name):
            answer.flags |= dns.flags.AD
        return answer

    def _rrset(self, name: dns.name.Name, kind: dns.rdatatype.RdataType) -> dns.rrset.RRset | None:
        found = self._rrsets.get((name, kind))
        if found is None and not self._exists(name):
            wild = self._rrsets.get((dns.name.Name((b"*", *name.labels[1:])), kind))
            found = dns.rrset.from_rdata_list(name, wild.ttl, list(wild)) if wild is not None else None
        return found

    def _exists(self, name: dns.name.Name) -> bool:
        return any(one.is_subdomain(name) for one, _ in self._rrsets)

    def _deny(self, answer: dns.message.Message, name: dns.name.Name) -> None:
        if not self._exists(name) and not self._exists(dns.name.Name((b"*", *name.labels[1:]))):
            answer.set_rcode(dns.rcode.NXDOMAIN)
        apex = dns.name.Name(name.labels[-2:])
        times = f"1 3600 600 86400 {self._negative_ttl_s}"
        soa = dns.rrset.from_text(apex, self._negative_ttl_s, "IN", "SOA", f"ns.test. hostmaster.test. {times}")
        answer.authority.append(soa)

    def _is_secure(self, name: dns.name.Name) -> bool:
        if isinstance(self.secure, bool):
            return self.secure
        return any(name.is_subdomain(one) for one in self.secure)


def _spoilt(answer: dns.message.Message, fault: Fault | None, over_tcp: bool) -> bytes:
    match fault:
        case "servfail" | "refused":
            answer.answer.clear()
            answer.authority.clear()
            answer.set_rcode(dns.rcode.SERVFAIL if fault == "servfail" else dns.rcode.REFUSED)
        case "truncated" if not over_tcp:
            answer.answer.clear()
            answer.flags |= dns.flags.TC
        case "wrong-id":
            answer.id ^= 1
        case "wrong-question":
            answer.question[0].name = _absolute("another.test")
        case "garbage":
            return b"\xff" * 40
    try:
        return answer.to_wire(max_size=65_535 if over_tcp else 1232)
    except dns.exception.TooBig:
        return _spoilt(answer, "truncated", over_tcp)


def _parsed(zone: str) -> dict[tuple[dns.name.Name, dns.rdatatype.RdataType], dns.rrset.RRset]:
    lines = "\n".join(line.strip() for line in zone.splitlines())
    rrsets = dns.zonefile.read_rrsets(lines, rdclass=None, default_ttl=TTL_S)
    return {(rrset.name, rrset.rdtype): rrset for rrset in rrsets}


def _absolute(name: str) -> dns.name.Name:
    return dns.name.from_text(name)


class _Udp(socketserver.ThreadingUDPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], owner: DnsServer) -> None:
        self.address_family = _family(address[0])
        self.owner = owner
        super().__init__(address, _UdpHandler)


class _Tcp(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], owner: DnsServer) -> None:
        self.address_family = _family(address[0])
        self.owner = owner
        super().__init__(address, _TcpHandler)


class _UdpHandler(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        data, back = self.request
        assert isinstance(self.server, _Udp)
        answer = self.server.owner.reply(data, over_tcp=False)
        if answer is not None:
            back.sendto(answer, self.client_address)


class _TcpHandler(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        assert isinstance(self.server, _Tcp)
        while len(size := self.rfile.read(2)) == 2:
            answer = self.server.owner.reply(self.rfile.read(struct.unpack("!H", size)[0]), over_tcp=True)
            if answer is None:
                time.sleep(SLOW_S)
                return
            self.wfile.write(struct.pack("!H", len(answer)) + answer)


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _bound(host: str, port: int, owner: DnsServer) -> tuple[_Udp, _Tcp]:
    for _ in range(TRIES):
        udp = _Udp((host, port), owner)
        try:
            tcp = _Tcp((host, udp.server_address[1]), owner)
        except OSError:
            udp.server_close()
            continue
        return udp, tcp
    raise OSError("no port is free for both UDP and TCP")
