"""Where items go: the outputs of a plan, joined in commits that a crash cannot halve, each item once."""

from scrapeq.sink.batch import BatchSink
from scrapeq.sink.output import CapturedResponse, OutputAway, OutputSink, Record, SinkContext, SinkFactory
from scrapeq.sink.output_summary import held, written
from scrapeq.sink.outputs import OutputSet, Request, captures_responses, wants_seeds

__all__ = [
    "BatchSink",
    "CapturedResponse",
    "OutputAway",
    "OutputSet",
    "OutputSink",
    "Record",
    "Request",
    "SinkContext",
    "SinkFactory",
    "captures_responses",
    "held",
    "wants_seeds",
    "written",
]
