"""Outputs: files, tables and streams that receive the items of a run, each item once, in crash-safe commits."""

from scrapeq.sink.batch import BatchSink
from scrapeq.sink.output import (
    CapturedResponse,
    OutputSink,
    OutputUnavailable,
    Record,
    SinkContext,
    SinkFactory,
)
from scrapeq.sink.output_summary import locked_paths, written_outputs
from scrapeq.sink.outputs import CommitRequest, OutputSet, captures_responses, wants_seeds

__all__ = [
    "BatchSink",
    "CapturedResponse",
    "CommitRequest",
    "OutputSet",
    "OutputSink",
    "OutputUnavailable",
    "Record",
    "SinkContext",
    "SinkFactory",
    "captures_responses",
    "locked_paths",
    "wants_seeds",
    "written_outputs",
]
