"""The timeline of a run as one SVG: what was acknowledged and what was not, faults, elections, and the nodes' state.

Colours are classes, so that the page can give them for light and for dark. Everything drawn has a title to hover over.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from chaos.history import Band, History, Sighting
from chaos.report.figures import FAILURES, KINDS, Throughput, throughput

WIDTH, LEFT, RIGHT = 1100, 92, 16
BAND_HEIGHT, CHART_HEIGHT, FAILURES_HEIGHT, LANE_HEIGHT, GAP = 22, 190, 70, 20, 26
CLASSES = dict(zip((*KINDS, *FAILURES), ("k1", "k2", "k3", "k4", "bad1", "bad2"), strict=True))


def timeline_svg(history: History) -> str:
    """An <svg> element, well-formed by itself."""
    return _Plot(history, throughput(history)).svg()


@dataclass
class _Plot:
    history: History
    counts: Throughput

    def __post_init__(self) -> None:
        moments = [moment.at_s for moment in self.history.timeline]
        ends = [band.ended_s for band in self.history.bands if band.ended_s is not None]
        self.end_s = max([self.counts.end_s, 1.0, *moments, *ends])
        self.y = 0.0
        self.pieces: list[str] = []

    def svg(self) -> str:
        self._bands()
        top = self.y
        self._chart("acknowledged", self.counts.kinds, KINDS, CHART_HEIGHT)
        self._chart("not done", self.counts.failures, FAILURES, FAILURES_HEIGHT)
        self._lanes()
        self._marks(top)
        self._axis(top)
        label = f"Timeline of {self.end_s:.0f} seconds: operations, faults, elections and nodes"
        head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {self.y:.0f}" role="img"'
        return f'{head} aria-label="{label}">' + "\n".join(self.pieces) + "</svg>"

    def x(self, at_s: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * min(max(at_s, 0.0), self.end_s) / self.end_s

    # -- parts, from the top down

    def _bands(self) -> None:
        """Each fault in the first row that is free while it lasts."""
        free_s: list[float] = []
        for band in sorted(self.history.bands, key=lambda band: band.began_s):
            ended_s = self.end_s if band.ended_s is None else band.ended_s
            row = next((at for at, until_s in enumerate(free_s) if until_s <= band.began_s), len(free_s))
            free_s[row : row + 1] = [ended_s + self._text_s(_name(band))]
            self._band(band, ended_s, row * BAND_HEIGHT)
        self.y = len(free_s) * BAND_HEIGHT + 8

    def _text_s(self, text: str) -> float:
        """Seconds that a text beside a band would cover; a short band has its name behind it."""
        return len(text) * 6.6 / (WIDTH - LEFT - RIGHT) * self.end_s

    def _band(self, band: Band, ended_s: float, y: float) -> None:
        x, width = self.x(band.began_s), max(3.0, self.x(ended_s) - self.x(band.began_s))
        until = "the end" if band.ended_s is None else f"{ended_s:.2f} s"
        title = f"{_name(band)}: {band.began_s:.2f} s to {until} {band.detail}"
        self._rect("fault", x, y, width, BAND_HEIGHT - 4, title)
        self._text(min(x + width + 4, WIDTH - 150), y + 13, _name(band), "start")

    def _chart(self, name: str, rows: Mapping[str, Sequence[int]], order: Sequence[str], height: float) -> None:
        """Stacked steps, with a scale of its own."""
        top, bottom = self.y + 14, self.y + 14 + height
        per_s = [sum(counts) / self.counts.bucket_s for counts in zip(*rows.values(), strict=True)]
        highest = _scale(per_s) if height == CHART_HEIGHT else max([*per_s, 1.0])
        for value in _ticks(highest, 4 if height > 100 else 3):
            y = bottom - height * value / highest
            self.pieces.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
            self._text(LEFT - 6, y + 4, f"{value:g}", "end")
        self._text(LEFT, top - 3, f"{name}, a second", "start")
        below = [0.0] * len(per_s)
        for kind in order:
            above = [b + count / self.counts.bucket_s for b, count in zip(below, rows[kind], strict=True)]
            if any(rows[kind]):
                points = _steps(below, above, self.counts.bucket_s)
                heights = ((at_s, bottom - height * min(value, highest) / highest) for at_s, value in points)
                path = " ".join(f"{self.x(at_s):.1f},{y:.1f}" for at_s, y in heights)
                title = f"{kind}: {sum(rows[kind])}"
                shape = f'<polygon class="{CLASSES[kind]}" points="{path}"><title>{escape(title)}</title></polygon>'
                self.pieces.append(shape)
            below = above
        for at, value in enumerate(per_s):
            if value > highest:
                self._text(self.x((at + 0.5) * self.counts.bucket_s), top - 3, f"\u25b4{value:g}", "middle")
        self.y = bottom + GAP - 8

    def _lanes(self) -> None:
        for node in sorted({seen.node for seen in self.history.sightings}):
            self._text(LEFT - 6, self.y + 13, node, "end")
            for seen, until_s in _spans([one for one in self.history.sightings if one.node == node], self.end_s):
                x = self.x(seen.at_s)
                title = f"{node} {seen.state}, term {seen.term}: {seen.at_s:.2f} to {until_s:.2f} s"
                width = max(1.0, self.x(until_s) - x)
                self._rect(f"lane-{seen.state}", x, self.y, width, LANE_HEIGHT - 5, title)
            self.y += LANE_HEIGHT

    def _marks(self, top: float) -> None:
        """Elections and kills, through everything."""
        for moment in self.history.timeline:
            if moment.what == "elected":
                title = f"{moment.node} elected, {moment.detail}, at {moment.at_s:.2f} s"
                self._mark("election", moment.at_s, top, "\u25b2", title)
        for kill in self.history.kills:
            self._mark("kill", kill.at_s, top, "\u2715", f"{kill.node} killed at {kill.at_s:.2f} s")

    def _mark(self, name: str, at_s: float, top: float, sign: str, title: str) -> None:
        x = f"{self.x(at_s):.1f}"
        line = f'<line x1="{x}" x2="{x}" y1="{top + 14:.1f}" y2="{self.y:.1f}"/>'
        text = f'<text x="{x}" y="{self.y + 9:.1f}" text-anchor="middle">{sign}</text>'
        self.pieces.append(f'<g class="{name}"><title>{escape(title)}</title>{line}{text}</g>')

    def _axis(self, top: float) -> None:
        self.y += 14
        for at_s in _ticks(self.end_s, 12):
            x = f"{self.x(at_s):.1f}"
            self.pieces.append(f'<line class="grid" x1="{x}" x2="{x}" y1="{top + 14:.1f}" y2="{self.y:.1f}"/>')
            self._text(self.x(at_s), self.y + 13, f"{at_s:g} s", "middle")
        self.y += 20

    # -- shapes

    def _rect(self, name: str, x: float, y: float, width: float, height: float, title: str) -> None:
        size = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="2"'
        self.pieces.append(f'<rect class="{name}" {size}><title>{escape(title)}</title></rect>')

    def _text(self, x: float, y: float, text: str, anchor: str) -> None:
        self.pieces.append(f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>')


def _name(band: Band) -> str:
    return f"{band.fault} {band.node}".strip()


def _scale(per_s: list[float]) -> float:
    """The top of a chart: a burst after an outage must not flatten all else, and stands as a number above its bar."""
    usual = sorted(value for value in per_s if value)
    return max(1.0, min(max(per_s), 4 * usual[len(usual) // 2])) if usual else 1.0


def _steps(below: list[float], above: list[float], bucket_s: float) -> Iterator[tuple[float, float]]:
    """The outline of a row of bars: along their tops, and back along their feet."""
    for at, value in enumerate(above):
        yield at * bucket_s, value
        yield (at + 1) * bucket_s, value
    for at in range(len(below) - 1, -1, -1):
        yield (at + 1) * bucket_s, below[at]
        yield at * bucket_s, below[at]


def _spans(sightings: Iterable[Sighting], end_s: float) -> Iterator[tuple[Sighting, float]]:
    seen = list(sightings)
    for one, following in zip(seen, [*seen[1:], None], strict=True):
        yield one, end_s if following is None else following.at_s


def _ticks(highest: float, about: int) -> list[float]:
    """Round numbers from 0 to the highest, not many more than `about` of them."""
    for step in (unit * 10**power for power in range(7) for unit in (1, 2, 5)):
        if highest / step <= about:
            return [float(step * at) for at in range(int(highest / step) + 1)]
    return [0.0]
