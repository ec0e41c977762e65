"""
Draw the live view of a real run as an SVG, for the README:

    python tools/screenshot.py docs/images/live.svg

It runs the sample API in a pseudo-terminal, and draws the screen as it is after some seconds.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
from pathlib import Path

import pyte
from rich.console import Console
from rich.style import Style
from rich.text import Text

ROOT = Path(__file__).parents[1]
COLUMNS, ROWS = 96, 13
AFTER_S = 22.0
END_S = 30.0
TITLE = "scrapeq run configs/api.yaml"
READ_BYTES = 65536


def main() -> int:
    """Run, and write the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--after", type=float, default=AFTER_S, metavar="SECONDS")
    arguments = parser.parse_args()
    arguments.file.parent.mkdir(parents=True, exist_ok=True)
    screen = pyte.Screen(COLUMNS, ROWS)
    with tempfile.TemporaryDirectory() as folder:
        record(screen, Path(folder), arguments.after)
    arguments.file.write_text(drawn(screen), encoding="utf-8")
    print(f"{arguments.file} written")
    return 0


def record(screen: pyte.Screen, folder: Path, after_s: float) -> None:
    """Feed a screen with the output of a run until `after_s` seconds have passed, then stop the run."""
    parent, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    command = [sys.executable, "-m", "scrapeq", "run", str(ROOT / "configs" / "api.yaml")]
    environment = {**os.environ, "TERM": "xterm-256color", "PYTHONPATH": str(ROOT)}
    run = subprocess.Popen(
        command, cwd=folder, env=environment, stdin=child, stdout=child, stderr=child, start_new_session=True
    )
    os.close(child)
    stream = pyte.ByteStream(screen)
    deadline = time.monotonic() + after_s
    while (left_s := deadline - time.monotonic()) > 0 and run.poll() is None:
        if select.select([parent], [], [], left_s)[0]:
            stream.feed(os.read(parent, READ_BYTES))
    run.send_signal(signal.SIGTERM)
    end = time.monotonic() + END_S
    while run.poll() is None and time.monotonic() < end:
        if select.select([parent], [], [], 0.1)[0]:  # a full terminal would keep it from ending
            try:
                os.read(parent, READ_BYTES)
            except OSError:
                break
    run.wait(END_S)
    os.close(parent)


def drawn(screen: pyte.Screen) -> str:
    """Return the screen as an SVG."""
    console = Console(record=True, width=COLUMNS, file=open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
    for row in range(_last_row(screen) + 1):
        line = Text()
        for column in range(COLUMNS):
            cell = screen.buffer[row][column]
            line.append(cell.data, _style(cell))
        line.rstrip()
        console.print(line)
    return console.export_svg(title=TITLE)


def _last_row(screen: pyte.Screen) -> int:
    used = [row for row, text in enumerate(screen.display) if text.strip()]
    return used[-1] if used else 0


def _style(cell: pyte.screens.Char) -> Style:
    return Style(
        color=_color(cell.fg),
        bgcolor=_color(cell.bg),
        bold=cell.bold,
        italic=cell.italics,
        underline=cell.underscore,
        reverse=cell.reverse,
    )


def _color(name: str) -> str | None:
    if name == "default":
        return None
    if len(name) == 6 and all(digit in "0123456789abcdef" for digit in name):
        return f"#{name}"
    return {"brown": "yellow"}.get(name, name.replace("bright", "bright_"))


if __name__ == "__main__":
    sys.exit(main())
