"""
Draw how a learned limit develops over time.

    python benchmarks/quota.py --picture docs/explanation/limits.svg [--shape fixed] [--telling seconds] [--seed 1]

Nothing is configured. The server's limit is halved during the run, and raised later. The picture shows a simulated run
of the real engine, so the same seed gives the same picture.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import pairwise
from pathlib import Path

from benchmarks.quota_sim import judging
from benchmarks.quota_sim.cases import HOST, Size
from benchmarks.quota_sim.engines import PythonEngine
from benchmarks.quota_sim.headers import HEADERS
from benchmarks.quota_sim.shapes import SHAPES, Changing
from benchmarks.quota_sim.world import PHASE_S, Host, Setting, World

SIZE = Size(100, 10.0, 60)
CHANGES = ((16, 0.5), (34, 1.5))  # after so many windows, the factor of the first limit
LOOKS = 100  # per window, at the limit in force

WIDTH, HEIGHT = 960, 400  # these and all below are pixels
LEFT, RIGHT, TOP, BOTTOM = 52, 16, 62, 58
HEADROOM = 1.55  # space above the server's limits; higher trials are cut off
LINES = 6  # of the grid
BAR = 0.72  # of a window's width
TICK = 9

STYLE = """
.paper{fill:#fff}.ink{fill:#24292f}.faint{fill:#57606a}.grid{stroke:#d8dee4}.bar{fill:#b6d4f2}
.server{stroke:#24292f}.force{stroke:#0969da}.trial{stroke:#bc4c00}.refused{stroke:#cf222e}
@media (prefers-color-scheme:dark){
.paper{fill:#0d1117}.ink{fill:#e6edf3}.faint{fill:#9198a1}.grid{stroke:#30363d}.bar{fill:#1f3f63}
.server{stroke:#e6edf3}.force{stroke:#4493f8}.trial{stroke:#f0883e}.refused{stroke:#ff7b72}}
text{font:12px system-ui,sans-serif}
path,line{fill:none;stroke-width:1}.server{stroke-width:1.5;stroke-dasharray:5 4}
.force,.trial{stroke-width:2}.refused{stroke-width:1.5}
"""


@dataclass(frozen=True)
class Step:
    """The limit in force from a time on, in requests per window of the server; None: unknown."""

    at_s: float
    limit: float | None
    in_trial: bool = False


@dataclass
class Story:
    """The data of the picture. Times are seconds."""

    size: Size
    server: list[Step]
    force: list[Step] = field(default_factory=list)
    used: list[int] = field(default_factory=list)  # in each window
    refused_s: list[float] = field(default_factory=list)


def run(size: Size, shape: str, telling: str, seed: int) -> Story:
    """Run the simulation."""
    server = [Step(0.0, size.limit)]
    limiting = size.shape(shape)
    for after, times in CHANGES:
        at_s = size.window_s * after
        limiting = Changing(limiting, at_s + PHASE_S, size.shape(shape, times))
        server.append(Step(at_s, size.limit * times))
    story = Story(size, server)
    host = Host(limiting, size.limit, size.window_s, telling)
    world = World(PythonEngine(), Setting({HOST: host}, seed=seed, until_s=size.until_s))
    group = world.groups[HOST]
    name = group.private or group.limits[0]

    def look() -> None:
        (state,) = world.engine.states(world.now_s, [name])
        rate = state.learned
        limit = rate.limit * size.window_s / rate.interval_s if rate else None
        if not story.force or (limit, state.in_trial) != (story.force[-1].limit, story.force[-1].in_trial):
            story.force.append(Step(world.now_s, limit, state.in_trial))
        world.at(world.now_s + size.window_s / LOOKS, look)

    world.at(0.0, look)
    records = world.run().records
    windows = [n * size.window_s for n in range(size.windows + 1)]
    story.used = [judging.accepted(records, since_s, until_s) for since_s, until_s in pairwise(windows)]
    story.refused_s = [one.arrived_s for one in records if not one.accepted and one.arrived_s < size.until_s]
    return story


class Drawing:
    """Draws a story as SVG."""

    def __init__(self, story: Story) -> None:
        self.story = story
        self.most = max(step.limit or 0 for step in story.server) * HEADROOM

    def x(self, at_s: float) -> float:
        """Return the x coordinate of a time."""
        return LEFT + (WIDTH - LEFT - RIGHT) * at_s / self.story.size.until_s

    def y(self, limit: float) -> float:
        """Return the y coordinate of a number of requests."""
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * min(1.0, limit / self.most)

    def svg(self) -> str:
        """Return the file's text."""
        parts = [*self._paper(), *self._bars(), *self._limits(), *self._refusals(), *_legend()]
        frame = f'xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img"'
        return "\n".join([f"<svg {frame}>", f"<style>{STYLE}</style>", *parts, "</svg>", ""])

    def _paper(self) -> Iterator[str]:
        size = self.story.size
        refused, sent = len(self.story.refused_s), sum(self.story.used) + len(self.story.refused_s)
        title = (
            f"An undeclared limit of {size.limit} requests in {size.window_s:g} s, halved and then raised: "
            f"{sent:,} requests, {refused} refused"
        )
        yield f"<title>{escape(title)}</title>"
        yield f'<rect class="paper" width="{WIDTH}" height="{HEIGHT}"/>'
        yield _text(LEFT, 22, title)
        for limit in range(0, int(self.most) + 1, max(1, size.limit * 3 // (2 * LINES))):
            y = self.y(limit)
            yield f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
            yield _text(LEFT - 8, y + 4, str(limit), "faint", "end")
        for window in range(0, size.windows + 1, 5):
            yield _text(self.x(window * size.window_s), HEIGHT - 26, str(window), "faint", "middle")
        yield _text(
            (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, f"windows of {size.window_s:g} s", "faint", "middle"
        )
        for before, step in pairwise(self.story.server):
            x, word = self.x(step.at_s), "lowered" if (step.limit or 0) < (before.limit or 0) else "raised"
            yield f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{self.y(0):.1f}"/>'
            yield _text(x - 6, TOP + 12, f"{word} to {step.limit:g}", "faint", "end")

    def _bars(self) -> Iterator[str]:
        window_s = self.story.size.window_s
        width = (self.x(window_s) - self.x(0)) * BAR
        for number, used in enumerate(self.story.used):
            x = self.x((number + 0.5) * window_s) - width / 2
            y, height = self.y(used), self.y(0) - self.y(used)
            yield f'<rect class="bar" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"/>'

    def _limits(self) -> Iterator[str]:
        yield from self._line(self.story.server, "server")
        yield from self._line(self.story.force, "force")
        for step, end_s in self._spans(self.story.force):
            if step.in_trial and step.limit is not None:
                x, y = self.x(step.at_s), self.y(step.limit)
                yield f'<path class="trial" d="M{x:.1f} {y:.1f}H{self.x(end_s):.1f}"/>'

    def _spans(self, steps: Sequence[Step]) -> Iterator[tuple[Step, float]]:
        ends = [*(step.at_s for step in steps[1:]), self.story.size.until_s]
        return zip(steps, ends, strict=True)

    def _line(self, steps: Sequence[Step], kind: str) -> Iterator[str]:
        drawn = ""
        for step, end_s in self._spans(steps):
            if step.limit is not None:
                x, y = self.x(step.at_s), self.y(step.limit)
                drawn += (f"V{y:.1f}" if drawn else f"M{x:.1f} {y:.1f}") + f"H{self.x(end_s):.1f}"
        if drawn:
            yield f'<path class="{kind}" d="{drawn}"/>'

    def _refusals(self) -> Iterator[str]:
        y = self.y(0) + 2
        for at_s in self.story.refused_s:
            yield f'<path class="refused" d="M{self.x(at_s):.1f} {y:.1f}v{TICK}"/>'


def _text(x: float, y: float, text: str, kind: str = "ink", anchor: str = "start") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _legend() -> Iterator[str]:
    x, y = float(LEFT), 40.0
    for kind, text in (
        ("bar", "used in a window"),
        ("server", "the server's limit"),
        ("force", "the limit in force"),
        ("trial", "a trial, slightly higher"),
        ("refused", "a refusal"),
    ):
        if kind == "bar":
            yield f'<rect class="bar" x="{x}" y="{y - 9}" width="22" height="10"/>'
        elif kind == "refused":
            yield f'<path class="refused" d="M{x + 11} {y - 9}v{TICK}"/>'
        else:
            yield f'<path class="{kind}" d="M{x} {y - 4}h22"/>'
        yield _text(x + 28, y, text)
        x += 48 + 6.4 * len(text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the picture."""
    parser = argparse.ArgumentParser(
        prog="quota.py --picture", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--shape", choices=sorted(SHAPES), default="fixed", help="shape of the server's limit"
    )
    parser.add_argument(
        "--telling", choices=sorted(HEADERS), default="seconds", help="headers of its responses"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("file", type=Path, metavar="FILE", help="SVG file to write")
    o = parser.parse_args(arguments)
    story = run(SIZE, o.shape, o.telling, o.seed)
    try:
        o.file.write_text(Drawing(story).svg(), encoding="utf-8")
    except OSError as error:
        parser.error(f"cannot write {o.file}: {error.strerror}")
    print(f"{o.file}: {len(story.refused_s)} of {sum(story.used) + len(story.refused_s):,} requests refused")
    return 0
