"""What faults do to files, certificates, names, clocks and processes, each by itself."""

import datetime
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from random import Random

import dns.exception
import dns.message
import dns.rcode
import lmdb
import lmdb.verify
import pytest
from cryptography import x509

from chaos.cluster import Cluster, ClusterError
from chaos.crowd import source_of
from chaos.faults.certificates import reissue
from chaos.faults.clients import crowd
from chaos.faults.clocks import SKEWED
from chaos.faults.disks import damage
from chaos.faults.memory import heap_bytes
from chaos.faults.names import lie
from cli import layout
from nodes.tls.contexts import create_authority, issue_node
from tests.chaos.test_network import Echo, EchoHandler

MIB = 1024 * 1024


@pytest.mark.parametrize("seed", range(5))
def test_damaged_pages_are_always_found(tmp_path: Path, seed: int) -> None:
    with lmdb.open(str(tmp_path), map_size=64 * MIB) as environment:
        for number in range(20):
            with environment.begin(write=True) as transaction:
                for key in range(200):
                    transaction.put(b"%d-%d" % (key, number), bytes(500))
    assert lmdb.verify.verify(str(tmp_path)) == []  # type: ignore[no-untyped-call]
    assert damage(tmp_path / "data.mdb", Random(seed))
    assert lmdb.verify.verify(str(tmp_path)) != []  # type: ignore[no-untyped-call]


def test_a_reissued_certificate_differs_in_its_issuer_and_its_end_alone(tmp_path: Path) -> None:
    authority = create_authority(tmp_path, "cell-1")
    issue_node(authority, tmp_path, "cell-1", "n1", ("localhost",))
    before = x509.load_pem_x509_certificate((tmp_path / "node.pem").read_bytes())
    ends = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    (tmp_path / "other").mkdir()
    reissue(tmp_path / "node.pem", create_authority(tmp_path / "other", "cell-2"), ends)
    after = x509.load_pem_x509_certificate((tmp_path / "node.pem").read_bytes())
    assert after.not_valid_after_utc == ends
    assert after.issuer != before.issuer
    assert after.public_key() == before.public_key()
    names = [c.extensions.get_extension_for_class(x509.SubjectAlternativeName).value for c in (before, after)]
    assert names[0] == names[1]


def test_no_answer_of_the_lying_name_server_confirms_a_name() -> None:
    query = dns.message.make_query("1.0.66.127.in-addr.arpa.", "PTR")
    rng = Random(1)
    for _ in range(200):
        try:
            answer = dns.message.from_wire(lie(query, rng))
        except dns.exception.DNSException:
            continue
        led = [str(record) for found in answer.answer for record in found]
        assert answer.rcode() != dns.rcode.NOERROR or set(led) <= {"mx.bank.test.", "1.0.66.127.in-addr.arpa."}


def test_a_skewed_process_sees_the_wall_clock_jump_and_not_the_monotonic_one(tmp_path: Path) -> None:
    shift = tmp_path / "clock"
    shift.write_text("3600\n")
    program = (
        "import time, sys; m = time.monotonic(); print(time.time(), time.time_ns() // 10**9);"
        "open(sys.argv[1], 'w').write('0'); time.sleep(0.1); print(time.time(), time.monotonic() - m)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(shift)],
        env={**os.environ, "PYTHONPATH": str(SKEWED), "MAILRAFT_CHAOS_CLOCK": str(shift)},
        capture_output=True,
        text=True,
        check=True,
    )
    first, second = (line.split() for line in done.stdout.splitlines())
    assert 3500 < float(first[0]) - time.time() < 3700
    assert abs(int(first[1]) - float(first[0])) < 2
    assert abs(float(second[0]) - time.time()) < 100
    assert float(second[1]) < 100


def test_the_heap_of_a_process_is_known_and_that_of_none_is_an_error() -> None:
    assert heap_bytes(os.getpid()) > MIB
    with subprocess.Popen(["true"]) as ended:
        pass
    with pytest.raises(ClusterError, match=str(ended.pid)):
        heap_bytes(ended.pid)


def test_a_crowd_comes_from_addresses_of_its_own_and_leaves_with_the_block() -> None:
    seen: set[str] = set()

    class Noting(EchoHandler):
        def handle(self) -> None:
            seen.add(self.client_address[0])
            super().handle()

    with Echo(("127.0.0.1", 0), Noting) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        with crowd("strangers", 3, [f"127.0.0.1:{server.server_address[1]}"]):
            deadline = time.monotonic() + 20
            while len(seen) < 6 and time.monotonic() < deadline:
                time.sleep(0.05)
        server.shutdown()
        thread.join()
    assert len(seen) >= 6
    assert all(address.startswith("127.66.") for address in seen)


def test_a_flood_has_one_address_and_strangers_have_many() -> None:
    assert {source_of("flood", number) for number in range(1000)} == {"127.66.0.1"}
    assert len({source_of("strangers", number) for number in range(1000)}) == 1000


def test_a_node_that_is_apart_is_found_alone_in_a_folder_of_its_own(tmp_path: Path) -> None:
    layout.create(tmp_path / "c", 3, 20000)
    cluster = Cluster(tmp_path / "c", apart=True)
    found = layout.load(cluster.machine("n2"))
    assert [(node.name, node.folder) for node in found.nodes] == [("n2", tmp_path / "c" / "n2")]


def test_a_key_of_a_nodes_configuration_is_set_and_removed(tmp_path: Path) -> None:
    layout.create(tmp_path / "c", 1, 20000)
    cluster = Cluster(tmp_path / "c")
    before = cluster.configuration("n1")
    cluster.configure("n1", "dns", {"client_names": "all"})
    assert cluster.configuration("n1") == {**before, "dns": {"client_names": "all"}}
    cluster.configure("n1", "dns", {"client_names": None})
    assert cluster.configuration("n1") == {**before, "dns": {}}
