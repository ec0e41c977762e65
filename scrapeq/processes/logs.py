"""Structured logging to a file beside the data; nothing is logged to the terminal."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import TextIO

import structlog

from scrapeq.private_files import private_file, private_folder

LOG_FILE = "run.log"


def _configure(stream: TextIO, level: int) -> None:
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(stream),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(
        stream=stream, level=level, format="%(asctime)s %(levelname)s %(name)s %(message)s", force=True
    )


def configure_child_log(level: int = logging.INFO) -> None:
    """Log to standard error, which the supervisor has connected to the log file."""
    _configure(sys.stderr, level)


def open_log(folder: Path) -> TextIO:
    """Open the run's log file in the data folder and send this process's own log lines there."""
    private_folder(folder)
    private_file(folder / LOG_FILE)
    stream = (folder / LOG_FILE).open("a", buffering=1, encoding="utf-8")
    _configure(stream, logging.INFO)
    return stream
