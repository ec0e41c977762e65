"""Where items go: the outputs of a plan, joined in commits that a crash cannot halve, each item once."""

from scrapeq.sink.batch import BatchSink
from scrapeq.sink.output import Answer, OutputAway, OutputSink, Record, SinkContext, SinkFactory
from scrapeq.sink.output_summary import held, written
from scrapeq.sink.outputs import OutputSet, Request, wants_answers, wants_seeds

__all__ = [
    "Answer",
    "BatchSink",
    "OutputAway",
    "OutputSet",
    "OutputSink",
    "Record",
    "Request",
    "SinkContext",
    "SinkFactory",
    "held",
    "wants_answers",
    "wants_seeds",
    "written",
]
