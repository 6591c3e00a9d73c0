"""Metrics come out in the text format, of this node only."""

from nodes.metrics import Metrics


def test_what_was_counted_is_exposed() -> None:
    metrics = Metrics("n1")
    metrics.connection_opened("imap")
    metrics.connection_refused("imap")
    metrics.command("smtp", "EHLO")
    metrics.verbs("smtp")[b"NOOP"] += 2
    metrics.delivery("lmtp", "committed")
    metrics.auth_failure("pop3", "PLAIN", "wrong")
    metrics.judged("fail")
    metrics.proposed("committed", 0.0015)
    text = metrics.exposition().decode()
    assert 'mailraft_open_connections{protocol="imap"} 1.0' in text
    assert 'mailraft_connections_total{outcome="refused",protocol="imap"} 1.0' in text
    assert 'mailraft_commands_total{command="EHLO",protocol="smtp"} 1.0' in text
    assert 'mailraft_commands_total{command="NOOP",protocol="smtp"} 2.0' in text
    assert 'mailraft_deliveries_total{outcome="committed",protocol="lmtp"} 1.0' in text
    assert 'mailraft_auth_failures_total{mechanism="PLAIN",protocol="pop3",reason="wrong"} 1.0' in text
    assert 'mailraft_judged_total{dmarc="fail"} 1.0' in text
    assert 'mailraft_propose_seconds_bucket{le="0.002",outcome="committed"} 1.0' in text


def test_two_nodes_in_one_process_do_not_share_counts() -> None:
    first, second = Metrics("n1"), Metrics("n2")
    first.auth_failure("imap", "LOGIN", "blocked")
    assert b"auth_failures_total{" not in second.exposition()
    assert b'mailraft_node_info{node="n2"} 1.0' in second.exposition()
