"""What is said at the end of a run."""

from __future__ import annotations

from scrapeq.cli.formatting import clock, count, counted, long_span, safe
from scrapeq.protocols import Snapshot

HEADLINES = {
    "finished": "finished",
    "stopped": "stopped, work left",
    "gave_up": "gave up at a limit, work left",
    "failed": "failed",
}
OUTPUTS_SHOWN = 8


def summary(snapshot: Snapshot, now_s: float, *, file: str = "") -> list[str]:
    """
    The lines of the summary.

    Args:
        snapshot: How it ended.
        now_s: When it ended, Unix seconds.
        file: Named in the commands that come next; empty where they find it themselves.
    """
    verdict = HEADLINES.get(snapshot.state, snapshot.state.replace("_", " "))
    took = long_span(snapshot.elapsed_s)
    times = f"{clock(now_s - snapshot.elapsed_s)} to {clock(now_s)} UTC"
    lines = [
        f"{safe(snapshot.name)} {verdict}: {counted(snapshot.done, 'page')}, {counted(snapshot.items, 'item')}"
        f" in {took} ({times})"
    ]
    if snapshot.message:
        lines.append(f"  {safe(snapshot.message)}")
    lines += ["", *(f"  {name:9} {text}" for name, text in _facts(snapshot)), ""]
    command = f"scrapeq -c {file}" if file else "scrapeq"
    following = _next(snapshot, command)
    widest = max((len(what) for what, _ in following), default=0)
    lines += [
        f"{'next:' if i == 0 else '     '} {what:{widest}}  {why}" for i, (what, why) in enumerate(following)
    ]
    return lines if following else lines[:-1]


def _facts(snapshot: Snapshot) -> list[tuple[str, str]]:
    facts = [("asked", _asked(snapshot)), ("waited", _waited(snapshot))]
    if snapshot.dead:
        facts.append(("failed", counted(snapshot.dead, "dead letter")))
    if snapshot.left:
        parts = [(snapshot.ready, "ready"), (snapshot.delayed, "delayed"), (snapshot.leased, "under way")]
        which = ", ".join(f"{count(number)} {word}" for number, word in parts if number)
        facts.append(("left", f"{counted(snapshot.left, 'task')}: {which}"))
    outputs = [safe(path) for path in snapshot.outputs[:OUTPUTS_SHOWN]]
    if len(snapshot.outputs) > OUTPUTS_SHOWN:
        outputs.append(f"{len(snapshot.outputs) - OUTPUTS_SHOWN} more")
    facts.append(("written", ", ".join(outputs) or "nothing"))
    return facts


def _asked(snapshot: Snapshot) -> str:
    said = counted(snapshot.requests, "request")
    share = (
        f" ({100 * snapshot.refused / snapshot.requests:.2g} %)"
        if snapshot.refused and snapshot.requests
        else ""
    )
    said += f", {count(snapshot.refused)} of them refused{share}"
    parts = [
        (snapshot.not_modified, "not modified"),
        (snapshot.retried, "tried again"),
        (snapshot.cached, "more answered from the cache"),
    ]
    return said + "".join(f", {count(number)} {what}" for number, what in parts if number)


def _waited(snapshot: Snapshot) -> str:
    if not snapshot.closings and snapshot.waited_s < 0.05:
        return "not at all: no limit closed"
    share = f" ({100 * snapshot.waited_s / snapshot.elapsed_s:.0f} %)" if snapshot.elapsed_s else ""
    said = f"{long_span(snapshot.waited_s)}{share} with nothing that could be sent"
    closed = f"; limits closed {counted(snapshot.closings, 'time')}" if snapshot.closings else ""
    return said + closed


def _next(snapshot: Snapshot, command: str) -> list[tuple[str, str]]:
    following = []
    if snapshot.dead:
        following.append((f"{command} dead", "what failed and why; redrive what you fixed"))
    if snapshot.left and snapshot.state != "failed":
        following.append((f"{command} run", "go on where this stopped"))
    return following
