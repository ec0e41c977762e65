"""Where items go: JSON Lines files with a ledger beside them that makes every commit idempotent."""

from scrapeq.sink.jsonl import JsonlSink

__all__ = ["JsonlSink"]
