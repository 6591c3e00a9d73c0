"""Reports as others send them."""

from __future__ import annotations

import base64
import gzip
import io
import json
import zipfile

AGGREGATE = b"""<?xml version="1.0" encoding="UTF-8" ?>
<feedback xmlns="http://dmarc.org/dmarc-xml/0.1">
  <report_metadata>
    <org_name>receiver.test</org_name><email>noreply@receiver.test</email>
    <report_id>1234567890</report_id>
    <date_range><begin>1795132800</begin><end>1795219199</end></date_range>
  </report_metadata>
  <policy_published><domain>Example.TEST</domain><adkim>r</adkim><aspf>r</aspf><p>reject</p><pct>100</pct></policy_published>
  <record>
    <row><source_ip>192.0.2.1</source_ip><count>12</count>
      <policy_evaluated><disposition>none</disposition><dkim>pass</dkim><spf>fail</spf></policy_evaluated></row>
    <identifiers><header_from>example.test</header_from></identifiers>
    <auth_results><dkim><domain>example.test</domain><result>pass</result></dkim>
      <spf><domain>bounce.example.test</domain><result>none</result></spf></auth_results>
  </record>
  <record>
    <row><source_ip>203.0.113.9</source_ip><count>30</count>
      <policy_evaluated><disposition>reject</disposition><dkim>fail</dkim><spf>fail</spf></policy_evaluated></row>
    <identifiers><header_from>example.test</header_from></identifiers>
    <auth_results><spf><domain>evil.test</domain><result>pass</result></spf></auth_results>
  </record>
</feedback>
"""

TLS = {  # RFC 8460 appendix B, shortened
    "organization-name": "Company-X",
    "date-range": {"start-datetime": "2026-11-20T00:00:00Z", "end-datetime": "2026-11-20T23:59:59Z"},
    "contact-info": "sts-reporting@company-x.test",
    "report-id": "5065427c-23d3-47ca-b6e0-946ea0e8c4be",
    "policies": [
        {
            "policy": {
                "policy-type": "sts",
                "policy-string": ["version: STSv1", "mode: testing", "mx: *.mail.example.test", "max_age: 86400"],
                "policy-domain": "example.test",
                "mx-host": ["*.mail.example.test"],
            },
            "summary": {"total-successful-session-count": 5326, "total-failure-session-count": 303},
            "failure-details": [
                {
                    "result-type": "certificate-expired",
                    "sending-mta-ip": "2001:db8:abcd:0012::1",
                    "receiving-mx-hostname": "mx1.mail.example.test",
                    "failed-session-count": 100,
                },
                {
                    "result-type": "starttls-not-supported",
                    "sending-mta-ip": "2001:db8:abcd:0013::1",
                    "receiving-mx-hostname": "mx2.mail.example.test",
                    "receiving-ip": "203.0.113.56",
                    "failed-session-count": 203,
                },
            ],
        }
    ],
}

# RFC 5965 appendix B.2, shortened
ARF = b"""\
From: <abusedesk@isp.test>
Date: Thu, 8 Mar 2005 17:40:36 EDT
Subject: FW: Earn money
To: <abuse@example.test>
MIME-Version: 1.0
Content-Type: multipart/report; report-type=feedback-report;
     boundary="part1_13d.2e68ed54_boundary"

--part1_13d.2e68ed54_boundary
Content-Type: text/plain; charset="US-ASCII"
Content-Transfer-Encoding: 7bit

This is an email abuse report for an email message received from IP 192.0.2.1.

--part1_13d.2e68ed54_boundary
Content-Type: message/feedback-report

Feedback-Type: abuse
User-Agent: SomeGenerator/1.0
Version: 1
Original-Mail-From: <somespammer@example.test>
Original-Rcpt-To: <user@isp.test>
Arrival-Date: Thu, 8 Mar 2005 14:00:00 EDT
Reporting-MTA: dns; mail.isp.test
Source-IP: 192.0.2.1
Reported-Domain: example.test
Reported-Uri: http://example.test/earn_money.html

--part1_13d.2e68ed54_boundary
Content-Type: message/rfc822
Content-Disposition: inline

From: <somespammer@example.test>
To: <Undisclosed Recipients>
Subject: Earn money
Message-ID: <8787KJKJ3K4J3K4J3K4J3.mail@example.test>

Spam Spam Spam
--part1_13d.2e68ed54_boundary--
""".replace(b"\n", b"\r\n")


def zipped(*documents: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, document in enumerate(documents):
            archive.writestr(f"{number}.xml", document)
    return packed.getvalue()


def mailed(attachment: bytes, media: str = "application/gzip") -> bytes:
    """A message with one attachment."""
    head = (
        f"From: <noreply@receiver.test>\r\nTo: <dmarc@example.test>\r\nSubject: Report Domain: example.test\r\n"
        f'MIME-Version: 1.0\r\nContent-Type: {media}; name="report"\r\nContent-Transfer-Encoding: base64\r\n\r\n'
    )
    return head.encode() + base64.encodebytes(attachment).replace(b"\n", b"\r\n")


def aggregate() -> bytes:
    return mailed(gzip.compress(AGGREGATE))


def tls() -> bytes:
    return mailed(gzip.compress(json.dumps(TLS).encode()), "application/tlsrpt+gzip")
