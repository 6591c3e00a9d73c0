"""The commands of an operator, against a running cluster: what they print is a contract."""

import json
import smtplib
import time

import pytest

from chaos.cluster import ClusterError
from tests.acceptance.site import ALICE, CAROL, Site

ENDPOINTS = {"smtp", "submission", "submissions", "lmtp", "imap", "imaps", "pop3", "pop3s", "http"}
NODE_KEYS = {"name", "alive", "pid", "role", "term", "commit", "applied", "chain", "endpoints"}


def test_cluster_status_gives_each_node_with_role_position_chain_and_endpoints(site: Site) -> None:
    site.cluster.wait_settled()
    status = json.loads(site.cluster.command("cluster", "status", str(site.cluster.folder), "--json"))
    assert [node["name"] for node in status["nodes"]] == ["n1", "n2", "n3"]
    assert sorted(node["role"] for node in status["nodes"]) == ["follower", "follower", "leader"]
    assert next(node["name"] for node in status["nodes"] if node["role"] == "leader") == status["leader"]
    assert len({node["chain"] for node in status["nodes"] if node["applied"] == status["nodes"][0]["applied"]}) == 1
    for node in status["nodes"]:
        assert set(node) >= NODE_KEYS
        assert set(node["endpoints"]) == ENDPOINTS
        assert len(bytes.fromhex(node["chain"])) == 32


def test_log_verify_proves_the_log_and_gives_its_head(site: Site) -> None:
    verified = json.loads(site.cluster.command("log", "verify", "--json"))
    assert verified["ok"] is True
    assert verified["first_bad"] is None
    assert verified["records"] > 0
    assert len(bytes.fromhex(verified["head"])) == 32


def test_an_alias_leads_to_its_account_and_a_doubled_name_is_refused(site: Site) -> None:
    site.cluster.command("alias", "add", "info@example.test", CAROL)
    with pytest.raises(ClusterError, match=r"info@example\.test"):
        site.cluster.command("account", "add", "info@example.test", "--password-stdin", stdin="another one\n")
    assert ALICE in site.cluster.command("account", "list", "--json")


def test_a_mailbox_is_shown_as_it_was(site: Site) -> None:
    account = "dora@example.test"
    site.cluster.command("account", "add", account, "--password-stdin", stdin="correct horse battery\n")
    before = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 1))
    time.sleep(2.1)
    deliver_one(site, account)
    assert inbox_uids(site, account) == [1]
    assert inbox_uids(site, account, "--as-of", before) == []


def deliver_one(site: Site, account: str) -> None:
    host, _, port = site.endpoints("smtp")[0].rpartition(":")
    with smtplib.SMTP(host, int(port)) as client:
        client.sendmail("a@elsewhere.test", [account], b"Subject: x\r\n\r\nx\r\n")


def inbox_uids(site: Site, account: str, *arguments: str) -> list[int]:
    shown = json.loads(site.cluster.command("mailbox", "show", account, "--json", *arguments))
    inbox = next(folder for folder in shown["folders"] if folder["name"] == "INBOX")
    return [message["uid"] for message in inbox["messages"]]
