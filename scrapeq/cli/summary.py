"""Write the summary that ends a run."""

from __future__ import annotations

from scrapeq.cli.formatting import clock, count, counted, long_span, safe
from scrapeq.protocols import Snapshot

HEADLINES = {
    "finished": "finished",
    "stopped": "stopped, work left",
    "gave_up": "gave up waiting for a limit, work left",
    "failed": "failed",
}
OUTPUTS_SHOWN = 8
INCOMPLETE_SHOWN = 8  # lines, one for each resource and reason
NOTICEABLE_S = 0.05  # a shorter wait counts as none


def summary(snapshot: Snapshot, now_s: float, *, file: str = "") -> list[str]:
    """
    Return the lines of the summary.

    Args:
        snapshot: The run at its end.
        now_s: The time of its end, Unix seconds.
        file: The configuration that the suggested commands name; empty if they find it themselves.
    """
    headline = HEADLINES.get(snapshot.state, snapshot.state.replace("_", " "))
    took = long_span(snapshot.elapsed_s)
    times = f"{clock(now_s - snapshot.elapsed_s)} to {clock(now_s)} UTC"
    lines = [
        f"{safe(snapshot.name)} {headline}: {counted(snapshot.done, 'page')}, {counted(snapshot.items, 'item')}"
        f" in {took} ({times})"
    ]
    if snapshot.message:
        lines.append(f"  {safe(snapshot.message)}")
    lines += ["", *(f"  {name:9} {text}" for name, text in _facts(snapshot)), ""]
    command = f"scrapeq -c {file}" if file else "scrapeq"
    commands = _next_commands(snapshot, command)
    widest = max((len(text) for text, _ in commands), default=0)
    lines += [
        f"{'next:' if i == 0 else '     '} {text:{widest}}  # {purpose}"
        for i, (text, purpose) in enumerate(commands)
    ]
    return lines if commands else lines[:-1]


def _facts(snapshot: Snapshot) -> list[tuple[str, str]]:
    facts = [("requests", _requests(snapshot)), ("waited", _waited(snapshot))]
    if snapshot.dead:
        facts.append(("failed", counted(snapshot.dead, "dead letter")))
    if snapshot.left:
        parts = [(snapshot.ready, "ready"), (snapshot.delayed, "delayed"), (snapshot.leased, "in flight")]
        which = ", ".join(f"{count(number)} {word}" for number, word in parts if number)
        facts.append(("left", f"{counted(snapshot.left, 'task')}: {which}"))
    if snapshot.unchanged:
        facts.append(("left out", f"{counted(snapshot.unchanged, 'equal record')}, written before"))
    facts += _missing(snapshot)
    outputs = [safe(path) for path in snapshot.outputs[:OUTPUTS_SHOWN]]
    if len(snapshot.outputs) > OUTPUTS_SHOWN:
        outputs.append(f"{len(snapshot.outputs) - OUTPUTS_SHOWN} more")
    facts.append(("output", ", ".join(outputs) or "none"))
    return facts


def _missing(snapshot: Snapshot) -> list[tuple[str, str]]:
    """Return one line for each resource and reason for which page sequences are incomplete."""
    lines = [
        f"{safe(one.resource)}: {counted(one.sequences, 'incomplete page sequence')}: {safe(one.reason)}"
        for one in snapshot.incomplete[:INCOMPLETE_SHOWN]
    ]
    more = sum(one.sequences for one in snapshot.incomplete[INCOMPLETE_SHOWN:])
    if more:
        lines.append(f"{counted(more, 'more incomplete page sequence')}; `--json` lists them")
    return [("missing", line) for line in lines]


def _requests(snapshot: Snapshot) -> str:
    share = _share(snapshot.refused, snapshot.requests) if snapshot.refused else ""
    parts = [
        (snapshot.not_modified, "not modified"),
        (snapshot.retried, "retried"),
        (snapshot.cached, "more served from the cache"),
    ]
    return f"{count(snapshot.requests)}, {count(snapshot.refused)} refused{share}" + "".join(
        f", {count(number)} {text}" for number, text in parts if number
    )


def _waited(snapshot: Snapshot) -> str:
    if not snapshot.closings and snapshot.waited_s < NOTICEABLE_S:
        return "not at all: no limit closed"
    share = _share(snapshot.waited_s, snapshot.elapsed_s)
    if not snapshot.closings:
        return f"{long_span(snapshot.waited_s)}{share} until tasks were due; no limit closed"
    closings = counted(snapshot.closings, "time")
    return f"{long_span(snapshot.waited_s)}{share} for limits to open; they closed {closings}"


def _share(part: float, whole: float) -> str:
    percent = 100 * part / whole if whole else 0.0
    return f" ({percent:.{0 if percent >= 10 else 1}f}%)" if percent else ""


def _next_commands(snapshot: Snapshot, command: str) -> list[tuple[str, str]]:
    """Return the commands that make sense next, each with its purpose."""
    commands = []
    if snapshot.dead:
        commands.append((f"{command} dead", "list what failed and why, then redrive"))
    if snapshot.left and snapshot.state != "failed":
        commands.append((f"{command} run", "resume"))
    return commands
