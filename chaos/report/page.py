"""The report as one page for people: a single file that needs no network and no script, in light and in dark."""

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from chaos.checkers import Check
from chaos.history import History
from chaos.report.figures import FAILURES, KINDS, failures_by_reply, latencies_ms, outcomes
from chaos.report.plot import CLASSES, timeline_svg

SHOWN_VIOLATIONS = 50
SHOWN_MOMENTS = 500
POLICY = "default-src 'none'; style-src 'unsafe-inline'"

STYLE = """
:root { color-scheme: light dark; --back: #fcfcfb; --text: #1d1f23; --soft: #6a6f78; --line: #dcdee2; --panel: #f3f4f5;
  --k1: #2f6fb5; --k2: #e08a1e; --k3: #58a55c; --k4: #8c6bb1; --refused: #b9a24a; --unknown: #c8443c;
  --fault: #e9b8b2; --up: #a9d3ad; --leader: #2e8b57; --down: #d8574e; --ok: #1f7a3d; --bad: #b3261e; }
@media (prefers-color-scheme: dark) {
:root { --back: #16181c; --text: #e4e6ea; --soft: #9aa1ac; --line: #343941; --panel: #1f2227;
  --k1: #6ea8e6; --k2: #eda64c; --k3: #7cc680; --k4: #b39ad6; --refused: #d6c06a; --unknown: #f0776e;
  --fault: #6e3a36; --up: #38613f; --leader: #58c98a; --down: #e06c63; --ok: #6fd08c; --bad: #ff8a80; } }
body { margin: 0 auto; max-width: 72rem; padding: 1.5rem; background: var(--back); color: var(--text);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: 0; } h2 { font-size: 1.1rem; margin: 2rem 0 .6rem; }
.soft { color: var(--soft); } .ok { color: var(--ok); } .bad { color: var(--bad); } .ok, .bad { font-weight: 600; }
.tiles { display: flex; flex-wrap: wrap; gap: .6rem; margin: 1rem 0; padding: 0; list-style: none; }
.tiles li { background: var(--panel); border-radius: 6px; padding: .5rem .9rem; }
.tiles b { display: block; font-size: 1.25rem; font-variant-numeric: tabular-nums; }
.scroll { overflow-x: auto; } svg { width: 100%; min-width: 44rem; height: auto; }
svg text { fill: var(--soft); font: 11px system-ui, sans-serif; } .grid { stroke: var(--line); stroke-width: .6; }
.k1 { fill: var(--k1); } .k2 { fill: var(--k2); } .k3 { fill: var(--k3); } .k4 { fill: var(--k4); }
.bad1 { fill: var(--refused); } .bad2 { fill: var(--unknown); } .fault { fill: var(--fault); }
.lane-up { fill: var(--up); } .lane-leader { fill: var(--leader); }
.lane-unready { fill: var(--refused); } .lane-down { fill: var(--down); }
.election line { stroke: var(--leader); stroke-dasharray: 3 3; } .election text { fill: var(--leader); }
.kill line { stroke: var(--down); } .kill text { fill: var(--down); }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; font-size: .85rem; color: var(--soft); }
.legend svg { width: 12px; min-width: 0; height: 12px; vertical-align: -1px; margin-right: .35rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; } caption { text-align: left; }
th, td { padding: .2rem .8rem .2rem 0; text-align: left; border-bottom: 1px solid var(--line); vertical-align: top; }
td.n, th.n { text-align: right; } pre { background: var(--panel); padding: .7rem; border-radius: 6px;
  white-space: pre-wrap; overflow-wrap: anywhere; font-size: .82rem; margin: .3rem 0; }
"""


def page(title: str, facts: dict[str, Any], history: History, checks: Sequence[Check]) -> str:
    """The whole page, well-formed as XML too. `facts` is what report.json holds."""
    parts = [
        f"<h1>{escape(title)}: {_verdict(facts['verdict'])}</h1>",
        f'<p class="soft">seed {facts["seed"]}; times are seconds since the workload began</p>',
        _tiles(facts),
        "<h2>Checks</h2>",
        *map(_check, checks),
        "<h2>Timeline</h2>",
        _legend(),
        f'<div class="scroll">{timeline_svg(history)}</div>',
        "<h2>Faults</h2>",
        _faults(facts),
        "<h2>Operations</h2>",
        _outcomes(history),
        "<h2>Latency of what was acknowledged</h2>",
        _latencies(history),
        "<h2>What was not done, and what was said</h2>",
        _table(
            ("protocol", "outcome", "reply", "#times"), (row.values() for row in failures_by_reply(history.operations))
        ),
        "<h2>Events</h2>",
        _events(history),
    ]
    meta = f'<meta charset="utf-8"/><meta http-equiv="Content-Security-Policy" content="{POLICY}"/>'
    view = '<meta name="viewport" content="width=device-width, initial-scale=1"/>'
    head = f"<head>{meta}{view}<title>{escape(title)}</title><style>{STYLE}</style></head>"
    return f'<!DOCTYPE html>\n<html lang="en">{head}<body>' + "\n".join(parts) + "</body></html>\n"


VERDICTS = {"VIOLATED": "a promise was broken", "NOT DECIDED": "not all could be judged"}


def _verdict(verdict: str) -> str:
    css = "ok" if verdict == "clean" else "bad"
    return f'<span class="{css}">{VERDICTS.get(verdict, verdict.lower())}</span>'


def check_state(check: Check) -> str:
    """A promise kept, broken, or neither for certain."""
    return "ok" if check.ok else "FAIL" if check.violations else "OPEN"


def _tiles(facts: dict[str, Any]) -> str:
    counts, recovery, silence = facts["attempts"], facts["recovery"], facts["longest_silence"]
    shown = {"operations": counts["total"]} | {name: counts[name] for name in ("acknowledged", "refused", "unknown")}
    shown |= {
        "faults": len(facts["bands"]),
        "kills among them": recovery["kills"],
        "longest without a 250": f"{silence['length_s']:.2f} s",
    }
    if "max_s" in recovery:
        shown["longest recovery from a kill"] = f"{recovery['max_s']:.2f} s"
    tiles = "".join(f"<li><b>{escape(str(value))}</b>{escape(name)}</li>" for name, value in shown.items())
    return f'<ul class="tiles">{tiles}</ul>'


def _check(check: Check) -> str:
    state = f'<span class="{"ok" if check.ok else "bad"}">{check_state(check)}</span>'
    parts = [f"<p>{state} {escape(check.promise)}</p>"]
    for violation in check.violations[:SHOWN_VIOLATIONS]:
        where = f"{violation.checker} {violation.node}".strip()
        parts.append(f"<pre>{escape(where)}: {escape(violation.text)}</pre>")
    parts += [f"<pre>not decided: {escape(text)}</pre>" for text in check.undecided]
    if len(check.violations) > SHOWN_VIOLATIONS:
        parts.append(f'<p class="soft">and {len(check.violations) - SHOWN_VIOLATIONS} more, in report.json</p>')
    return "".join(parts)


def _legend() -> str:
    names = {**{kind: CLASSES[kind] for kind in (*KINDS, *FAILURES)}, "fault": "fault"}
    names |= {"node up": "lane-up", "leads": "lane-leader", "not ready": "lane-unready", "down": "lane-down"}
    box = '<svg viewBox="0 0 12 12"><rect class="{}" width="12" height="12" rx="2"/></svg>'
    swatches = [f"<span>{box.format(name)}{escape(text)}</span>" for text, name in names.items()]
    return f'<div class="legend">{"".join(swatches)}<span>\u25b2 election</span><span>\u2715 kill</span></div>'


def _faults(facts: dict[str, Any]) -> str:
    """Each once: a kill is a fault that has its band like any other."""
    rows = [
        (band["fault"], band["node"], _s(band["began_s"]), _s(band["ended_s"]), _s(band["recovery_s"]), band["detail"])
        for band in facts["bands"]
    ]
    return _table(("fault", "node", "#began, s", "#over, s", "#next 250 after, s", "detail"), rows)


def _outcomes(history: History) -> str:
    rows = [(action, *counts.values()) for action, counts in outcomes(history.operations).items()]
    skipped = (
        f'<p class="soft">{history.skipped} were never asked: too many were under way.</p>' if history.skipped else ""
    )
    return _table(("action", "#acknowledged", "#refused", "#unknown"), rows) + skipped


def _latencies(history: History) -> str:
    rows = [(action, *values.values()) for action, values in latencies_ms(history.operations).items()]
    return _table(("action", "#count", "#median, ms", "#95 %, ms", "#99 %, ms", "#longest, ms"), rows)


def _events(history: History) -> str:
    rows = [(_s(m.at_s), m.what, m.node, m.detail) for m in history.timeline[:SHOWN_MOMENTS]]
    return _table(("#s", "what", "node", "detail"), rows)


def _s(value: float | None) -> str:
    return "\u2013" if value is None else f"{value:.2f}"


def _table(heads: Sequence[str], rows: Iterable[Iterable[Any]]) -> str:
    """Columns whose head begins with # hold numbers."""
    classes = [' class="n"' if head.startswith("#") else "" for head in heads]
    top = "".join(f"<th{name}>{escape(head.lstrip('#'))}</th>" for head, name in zip(heads, classes, strict=True))
    body = [
        "".join(f"<td{name}>{escape(str(cell))}</td>" for cell, name in zip(row, classes, strict=True)) for row in rows
    ]
    if not body:
        return '<p class="soft">none</p>'
    lines = "".join(f"<tr>{cells}</tr>" for cells in body)
    return f'<div class="scroll"><table><thead><tr>{top}</tr></thead><tbody>{lines}</tbody></table></div>'
