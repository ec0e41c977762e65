"""Extraction: turns pages into items and follow-up tasks with decoders, selectors, fields and paginators. Pure."""

from __future__ import annotations

from scrapeq.extract.page_extractor import PageExtractor
from scrapeq.extract.selector import compile_path

__all__ = ["PageExtractor", "compile_path"]
