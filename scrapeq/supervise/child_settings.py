"""What the supervisor gives to the children of a run: the settings of fetchers, scheduler and writer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TextIO

from scrapeq.plan import Plan
from scrapeq.processes.runtime_folder import writer_socket
from scrapeq.supervise.options import RunOptions
from scrapeq.supervise.schedules import schedules_of
from scrapeq.wiring import WorkerSettings, output_base, tokens_file
from scrapeq.writer.client import WriterProcess


def fetcher_settings(
    plan: Plan, options: RunOptions, folder: Path, store_url: str, removed: Sequence[str] = ()
) -> dict[str, Any]:
    """
    Return the settings of a fetcher.

    Args:
        plan: The plan.
        options: The options of the command line.
        folder: The data folder.
        store_url: The URL of the store.
        removed: Resources that the file has lost since the run began.
    """
    settings = replace(
        _plan_settings(plan, store_url),
        writer_socket=str(writer_socket(folder, plan.file, plan.name)),
        concurrency=plan.run.concurrency,
        lease_s=options.lease_s,
        max_requests=options.max_requests,
        max_items=options.max_items,
        removed=tuple(removed),
        cache_file=str((folder / f"{plan.name}.cache.db").absolute()),
        tokens_file=str(tokens_file(folder, plan)),
    )
    return {**asdict(settings), "grace_s": plan.run.grace_s}


def scheduler_settings(plan: Plan, options: RunOptions, store_url: str) -> dict[str, Any]:
    """Return the settings of the scheduler; see `fetcher_settings`."""
    settings: dict[str, Any] = {"name": plan.name, "store_url": store_url, "only": options.only}
    if options.keeps_schedules and schedules_of(plan, options.only):
        settings["worker"] = asdict(_plan_settings(plan, store_url))
    return settings


def writer_process(plan: Plan, folder: Path, run_id: str, log_file: TextIO | None) -> WriterProcess:
    """Return the writer of a run, which is not started yet."""
    return WriterProcess(
        plan.outputs,
        base=output_base(),
        path=writer_socket(folder, plan.file, plan.name),
        stderr=log_file,
        data=folder / "outputs",
        name=plan.name,
        run=run_id,
    )


def _plan_settings(plan: Plan, store_url: str) -> WorkerSettings:
    """Return the settings from which a child loads the plan."""
    return WorkerSettings(plan.file, plan.source, dict(plan.overrides), store_url, plan.client.base_url)
