"""A node whose front ends run in two workers: clients notice nothing, and a worker that dies takes nobody else down."""

from __future__ import annotations

import os
import poplib
import signal
import smtplib
import socket
import threading
from collections.abc import Iterator
from hashlib import sha256

import pytest

from chaos.cluster import Cluster
from tests.nodes.workers.processes import holder, lives, wait_for
from tests.nodes.workers.site import ALICE, TLS, Site, message, refuses, send


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("workers") / "cluster"
    with Cluster(folder, 1, {"MAILRAFT_NODE_WORKERS": "2"}) as cluster:
        yield Site(cluster, cluster.add_accounts("example", (ALICE,)))


def test_mail_that_one_worker_takes_is_told_to_a_session_of_the_other(site: Site) -> None:
    readers = site.in_each_worker(site.idle)
    for number, client in enumerate(site.in_each_worker(site.smtp)):
        send(client, f"told-{number}")
        for reader in readers:
            while not reader.readline().endswith(b" EXISTS\r\n"):
                pass
        client.quit()
    for reader in readers:
        reader.send(b"DONE\r\n")
        reader.shutdown()
    assert {"told-0", "told-1"} <= set(site.subjects())


def test_pop3_and_submission_are_served_by_workers_too(site: Site) -> None:
    client = site.submission()
    assert holder(client.sock, site.workers)  # type: ignore[arg-type]
    client.login(ALICE, site.password)
    client.sendmail(ALICE, [ALICE], message("submitted"))
    client.quit()
    reader = poplib.POP3_SSL(*site.address("pop3s"), timeout=20, context=TLS)
    assert holder(reader.sock, site.workers)
    reader.user(ALICE)
    reader.pass_(site.password)
    count = reader.stat()[0]
    assert b"Subject: submitted" in reader.retr(count)[1]
    reader.quit()


def test_a_worker_that_is_killed_is_replaced_and_loses_nothing_that_was_answered(site: Site) -> None:
    before = site.workers
    [reader] = [one for one in site.in_each_worker(site.imap) if holder(one.sock, before) == before[1]]
    answered: list[str] = []
    over = threading.Event()

    def deliver(sender: int) -> None:
        number = 0
        while not over.is_set():
            try:
                with site_smtp() as client:
                    while not over.is_set():
                        number += 1
                        send(client, f"s{sender}-{number}")
                        answered.append(f"s{sender}-{number}")
            except (OSError, smtplib.SMTPException):
                continue  # its worker was killed: another takes the next one

    address = site.address("smtp")

    def site_smtp() -> smtplib.SMTP:
        return smtplib.SMTP(*address, timeout=20)

    senders = [threading.Thread(target=deliver, args=(number,)) for number in range(4)]
    for one in senders:
        one.start()
    wait_for(lambda: len(answered) > 40)
    os.kill(before[0], signal.SIGKILL)
    wait_for(lambda: len(workers := site.workers) == 2 and before[0] not in workers)
    at = len(answered)
    wait_for(lambda: len(answered) > at + 40)
    over.set()
    for one in senders:
        one.join()
    assert reader.noop()[0] == "OK"  # the other worker's sessions went on
    reader.logout()
    in_mailbox = site.subjects()
    assert not set(answered) - set(in_mailbox)
    assert max(in_mailbox.count(one) for one in answered) == 1


def test_what_is_redacted_is_gone_although_workers_read_the_database(site: Site) -> None:
    mark = f"mark-{os.urandom(20).hex()}"
    content = message("redacted").replace("text", mark)
    with site.smtp() as client:
        client.sendmail("x@example.org", [ALICE], content)
    readers, before = site.in_each_worker(site.imap), site.workers
    for reader in readers:
        assert mark.encode() in reader.fetch("*", "(BODY.PEEK[])")[1][0][1]
    database = site.cluster.data_dir("n1") / "data.mdb"
    assert mark.encode() in database.read_bytes()
    digest = sha256(content.encode()).hexdigest()
    site.cluster.command("log", "redact", "--message", digest, "--reason", "a test", "--yes")
    assert mark.encode() not in database.read_bytes()
    for number, reader in enumerate(readers):
        reader.noop()
        assert mark not in str(reader.fetch("1:*", "(BODY.PEEK[])"))
        with site.smtp() as client:
            send(client, f"after-redaction-{number}")
    assert {"after-redaction-0", "after-redaction-1"} <= set(site.subjects())
    assert site.workers == before  # each let go of the file and took the new one


def test_what_workers_count_is_in_the_metrics_of_the_node_also_after_they_died(site: Site) -> None:
    name = 'mailraft_connections_total{outcome="accepted",protocol="smtp"}'
    for client in site.in_each_worker(site.smtp):
        client.quit()
    counted = site.metric(name)
    wait_for(lambda: site.metric('mailraft_open_connections{protocol="smtp"}') == 0)
    victim = site.workers[0]
    os.kill(victim, signal.SIGKILL)
    wait_for(lambda: len(workers := site.workers) == 2 and victim not in workers)
    assert site.metric(name) >= counted >= 2


def test_a_reload_reaches_every_worker(site: Site) -> None:
    def sizes() -> set[str]:
        found = set()
        for client in site.in_each_worker(site.smtp):
            client.ehlo()
            found.add(client.esmtp_features["size"])
            client.quit()
        return found

    site.configure("limits", message_bytes=1_234_567)
    wait_for(lambda: sizes() == {"1234567"})


def test_a_listener_moves_to_another_port_in_every_worker(site: Site) -> None:
    stays, home = site.smtp(), site.address("smtp")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    site.configure("listen", smtp=f"127.0.0.1:{port}")
    wait_for(lambda: refuses(home))
    for client in site.in_each_worker(lambda: smtplib.SMTP("127.0.0.1", port, timeout=20)):
        send(client, "moved")
        client.quit()
    assert stays.noop()[0] == 250
    stays.quit()
    site.configure("listen", smtp=f"127.0.0.1:{home[1]}")
    wait_for(lambda: not refuses(home))


def test_an_address_has_no_more_connections_than_it_may_over_all_workers(site: Site) -> None:
    site.configure("limits", connections_per_address=4)
    clients = []
    for _ in range(12):
        client = socket.create_connection(site.address("smtp"), timeout=20)
        clients.append((client, client.recv(3)))
    for client, _ in clients:
        client.close()
    site.configure("limits", connections_per_address=200)
    assert [greeting for _, greeting in clients].count(b"220") == 4


def test_a_node_that_is_told_to_stop_lets_a_transaction_in_a_worker_end(site: Site) -> None:
    pid, before = site.pid, site.workers
    client = site.smtp()
    client.ehlo()
    client.mail("x@example.org")
    client.rcpt(ALICE)
    client.putcmd("data")
    assert client.getreply()[0] == 354
    os.kill(pid, signal.SIGTERM)
    wait_for(lambda: refuses(site.address("smtp")))
    client.send(message("last").encode() + b".\r\n")
    assert client.getreply()[0] == 250
    wait_for(lambda: not any(map(lives, [pid, *before])))
    wait_for(lambda: site.cluster.status().all_ready and site.pid != pid)
    assert "last" in site.subjects()


def test_workers_end_when_their_node_is_killed(site: Site) -> None:
    workers = site.workers
    assert len(workers) == 2
    os.kill(site.pid, signal.SIGKILL)
    wait_for(lambda: not any(map(lives, workers)))
