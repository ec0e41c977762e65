"""The run of one plan: start it, watch it, end it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

from scrapeq.errors import QueueFull, ScrapeqError, StoreDamaged, StoreError
from scrapeq.exit_codes import Exit
from scrapeq.inspect.limit_views import LimitWatch, title_of, unused_rules
from scrapeq.limits.definitions import limits_of
from scrapeq.plan import Plan
from scrapeq.protocols import Incomplete, LimitView, Progress
from scrapeq.queue import Counts, Queue
from scrapeq.queue.library import remove_other_libraries
from scrapeq.resource import TaskBuilder, first_pages
from scrapeq.sink import written_outputs
from scrapeq.store.check import LOAD_TIMEOUT_S, check_server, named_errors
from scrapeq.supervise.child_settings import fetcher_settings, scheduler_settings, writer_process
from scrapeq.supervise.file_changes import FileChanges, changes_between, fingerprint_of
from scrapeq.supervise.options import RunOptions, check_only
from scrapeq.supervise.run_children import RunChildren
from scrapeq.supervise.run_meter import RunMeter
from scrapeq.supervise.run_state import RunState, named_damage
from scrapeq.supervise.sample_api import SampleApi, forget_ports
from scrapeq.supervise.schedules import start_schedules
from scrapeq.wiring import (
    group_function,
    open_queue_of,
    output_base,
    pools_of,
    with_base_url,
)

WATCH_PATIENCE_S = 1.0
# Seeding waits for a store that loads or is away. The watch loop decides when that takes too long, and ends both.
SEED_PATIENCE_S = LOAD_TIMEOUT_S
DRAIN_EXTRA_S = 2.0  # for a fetcher to end by itself after the grace time
IDLE_BEFORE_GIVING_UP_S = 3.0  # before --max-wait applies: a probe may be about to leave
DEMO_STOP_S = 1.0
DAMAGED_GRACE_S = (
    2.0  # for fetchers to end after the store has lost the run: their results cannot be acknowledged
)
FINAL_STATES: dict[int, str] = {
    Exit.DONE: "finished",
    Exit.DEAD_LETTERS: "finished",
    Exit.GAVE_UP: "gave_up",
    Exit.STOPPED: "stopped",
}


class PlanRun:
    """
    Runs one plan: starts its children, follows its progress in the store, and decides when it is over.

    Args:
        plan: The plan.
        options: The options of the command line.
        folder: The data folder.
        store_url: The URL of the store.
        progress: Shows events.
        log_file: Where children log; None = the parent's standard error.
    """

    def __init__(
        self,
        plan: Plan,
        options: RunOptions,
        folder: Path,
        store_url: str,
        progress: Progress,
        log_file: TextIO | None,
    ) -> None:
        self.over = False
        self._plan = plan
        self._options = options
        self._folder = folder
        self._store_url = store_url
        self._progress = progress
        self._log_file = log_file
        self._code = 0
        self._message = ""
        self._headline = ""
        self._fingerprint = ""  # of the file
        self._changes = FileChanges()  # of the file, since the run began
        self._meter = RunMeter(plan.name)
        self.snapshot = self._meter.empty_snapshot("starting")
        self._stats: dict[str, float] = {}
        self._counts: Counts | None = None  # as last read
        self._is_superseded = False  # another machine has finished this run and started the next one
        self._store_is_damaged = False
        self._items_before = 0.0  # items of this run that were written before this start
        self._incomplete: tuple[Incomplete, ...] = ()  # read when the run is over
        self._scheduled_run = 0
        self._due_later: set[str] = set()  # resources whose schedule is not due yet
        self._children = RunChildren(log_file, progress.event, self.fail, lambda: self.over)
        self._demo: SampleApi | None = None
        self._demo_task: asyncio.Task[None] | None = None
        self._seed_task: asyncio.Task[None] | None = None
        self._end_task: asyncio.Task[int] | None = None
        self._client: Any = None

    # --- start

    async def prepare(self) -> None:
        """
        Start all that can fail, and push the seeds; no task is taken before `begin`.

        Raises:
            ScrapeqError: the run cannot start.
        """
        with named_errors():
            check_only(self._plan, self._options.only, self._progress.event)
            is_new = await self._open_run()
            self._plan = plan = await self._with_demo_address()
            await self._define_limits(plan)
            await self._start_schedules(plan, is_new=is_new)
            self._headline = f"{plan.name} {'begins' if is_new else 'resumes'}"
            writer = writer_process(plan, self._folder, self._state.record.id, self._log_file)
            starting = (
                asyncio.create_task(self._children.keep_writer(writer)) if self._options.fetches else None
            )
            await asyncio.sleep(0)
            if self._options.fetches:
                self._prepare_fetchers(plan)  # they load the plan meanwhile
            if self._options.coordinates:
                # In the background: a bounded queue that blocks waits for the fetchers, perhaps for long.
                self._seed_task = asyncio.create_task(self._seed(plan, self._headline))
            if starting is not None:
                await starting

    async def begin(self) -> None:
        """Let the fetchers take tasks, and start the scheduler."""
        self._children.let_fetch()
        if self._options.coordinates:
            self._start_scheduler(self._plan)
        else:
            with named_errors():
                self._show_counts(self._headline, await self._queue.counts())

    async def _open_run(self) -> bool:
        """Connect to the store and start a run there, or resume the unfinished one. Return whether it is new."""
        self._queue, self._client = open_queue_of(self._plan, self._store_url, patience_s=WATCH_PATIENCE_S)
        await check_server(self._client, self._store_url)
        await remove_other_libraries(self._client)
        await self._queue.check_types()
        self._limits = LimitWatch(self._queue)
        self._state = RunState(self._client, self._queue)
        await self._state.check_owner(self._plan.file, take_over=self._options.take_over)
        if self._options.full_refresh and self._options.coordinates:
            await self._state.reset(self._options.only or None)
        self._fingerprint = fingerprint_of(self._plan)
        fields = {"file": Path(self._plan.file).name, "config": self._fingerprint}
        is_new = await self._state.start_or_resume(fields)
        if not is_new and self._options.coordinates:
            await self._follow_file()
        if self._state.has_lost_record:
            self._progress.event(
                "store  the record of the last run is missing, but not its queue: this run fetches everything again"
            )
        if self._plan.redis.url == "embedded":
            # This run holds the folder's lock, so the fetchers of any remaining lease were killed.
            await self._queue.end_leases()
        self._items_before = (await self._state.stats()).get("items", 0.0)
        return is_new

    async def _follow_file(self) -> None:
        """Report how the file has changed since the run began, and note which tasks to drop and which seeds to push."""
        self._changes = changes_between(await self._state.fingerprint(), self._plan)
        if not self._changes:
            return
        self._progress.event(
            f"check  the file changed since this run began: {self._changes.text()}; --full-refresh restarts"
        )
        await self._state.report_late_children(self._changes.late_children(self._plan))
        removed = {*self._state.record.removed, *self._changes.removed}
        await self._state.save_removed(removed - {resource.name for resource in self._plan.resources})
        await self._state.read()

    async def _with_demo_address(self) -> Plan:
        """Start the sample API if the plan uses demo://, and return the plan with its address."""
        if not self._plan.client.base_url.startswith("demo:"):
            return self._plan
        self._demo = SampleApi(self._log_file, self._progress.event)
        url = await self._demo.start(self._state.record.demo_port)
        await self._state.save_demo_port(self._demo.port)
        await forget_ports(self._queue, keep=self._demo.port)
        self._demo_task = asyncio.create_task(self._demo.keep_running())
        return with_base_url(self._plan, url)

    async def _define_limits(self, plan: Plan) -> None:
        await self._queue.define(limits_of(plan.rate_limits))
        await self._queue.set_order(plan.queue.order)
        await self._queue.define_pools(pools_of(plan))

    async def _start_schedules(self, plan: Plan, *, is_new: bool) -> None:
        self._scheduled_run, self._due_later = await start_schedules(
            plan,
            self._state,
            self._queue,
            self._client,
            only=self._options.only,
            is_new=is_new,
            keep=self._options.keeps_schedules,
        )

    def _prepare_fetchers(self, plan: Plan) -> None:
        settings = fetcher_settings(
            plan, self._options, self._folder, self._store_url, self._state.record.removed
        )
        # --max-requests and --max-items are exact only within one process.
        is_bounded = self._options.max_requests is not None or self._options.max_items is not None
        for number in range(1, (1 if is_bounded else plan.run.workers) + 1):
            self._children.prepare_fetcher(f"fetcher {number}", settings)

    def _start_scheduler(self, plan: Plan) -> None:
        settings = scheduler_settings(plan, self._options, self._store_url)
        self._children.keep_running("scheduler", "scrapeq.supervise.scheduler_process", settings)

    async def _seed(self, plan: Plan, headline: str) -> None:
        """Push the first pages and show the headline; end the run if they cannot be pushed."""
        patient_queue = Queue(
            self._client,
            plan.name,
            max_tasks=plan.queue.max_tasks,
            on_full=plan.queue.on_full,
            patience_s=SEED_PATIENCE_S,
        )
        try:
            with named_errors():
                builder = TaskBuilder(plan, group_function(plan))
                names = self._options.only or [resource.name for resource in plan.resources]
                names = [name for name in names if name not in self._due_later]
                wanted = self._changes.wants if self._changes and self._state.record.seeded else None
                pages = first_pages(builder, time.time(), names, self._scheduled_run, wanted)
                fingerprint = self._fingerprint if self._changes else ""
                await self._state.seed(pages, patient_queue, fingerprint=fingerprint)
                self._show_counts(headline, await patient_queue.counts())
        except (StoreError, QueueFull) as error:
            self.fail(Exit.STORE, f"the seeds cannot be pushed: {error}")
        except ScrapeqError as error:
            self.fail(Exit.USAGE, f"the seeds cannot be pushed: {error}")
        finally:
            await patient_queue.close()

    def _show_counts(self, headline: str, counts: Counts) -> None:
        tasks = "1 task" if counts.live == 1 else f"{counts.live} tasks"
        dead = "1 dead letter" if counts.dead == 1 else f"{counts.dead} dead letters"
        self._progress.event(f"{headline}: {tasks} to do, {dead}")

    # --- watch

    async def tick(self) -> None:
        """Read how the run stands, update the snapshot, decide whether it is over. Raises StoreError."""
        if self.over:
            return
        await self._save_tally()
        try:
            with named_errors():
                await self._look()
        except StoreDamaged as error:
            await self._fail_for_damage(error)

    async def _look(self) -> None:
        """Read the run in the store, and update what is shown of it. Raises StoreError."""
        seeded = (
            await self._is_seeded()
        )  # before the counts: otherwise the last seeds may be missing from them
        counts = await self._checked_counts()
        if self._is_superseded:
            self.over = True
            return
        self._stats = await self._state.stats()
        limits = await self._limits.look(self._children.down)
        self._meter.measure(counts, ready=self._children.ready)
        await self._check_max_wait(counts)
        self._update_snapshot(self._state_word(counts), counts, limits)
        self._check_end(counts, seeded)

    async def _checked_counts(self) -> Counts:
        """Return the queue's counts, once it is certain that the store still has the run. Raises StoreDamaged."""
        counts = await self._queue.counts()
        if not await self._state.check(counts, self._lost()):
            self._is_superseded = True
            counts = self._counts or counts  # the others are those of the next run
            counts = replace(counts, ready=0, delayed=0, leased=0)
        self._counts = counts
        return counts

    def _lost(self) -> str:
        """Return what the store had of the run when it was last read, as text."""
        if self._counts is None:
            return ""
        done = int(self._stats.get("done", 0))
        return f"{self._counts.live} queued tasks and the record of {done} completed requests are lost"

    async def _fail_for_damage(self, error: StoreDamaged) -> None:
        """End the run at once: nothing can be acknowledged any more."""
        self._store_is_damaged = True
        self.fail(Exit.STORE, str(await named_damage(self._queue, error)))

    def fail(self, code: int, message: str) -> None:
        """End the run for this reason; the first reason counts."""
        if not self._code:
            self._code, self._message = code, message
        self.over = True

    async def _save_tally(self) -> None:
        """Add the children's counts to the run in the store; keep them for the next try while it is away."""
        tally, is_saved = self._children.take_tally(), False
        with contextlib.suppress(Exception):
            is_saved = await self._state.add_stats(tally)
        if is_saved:
            self._add_to_stats(tally)  # until the store is read again
        else:
            self._children.add_tally(tally)

    def _add_to_stats(self, tally: dict[str, float]) -> None:
        for name, number in tally.items():
            self._stats[name] = self._stats.get(name, 0.0) + number

    async def _is_seeded(self) -> bool:
        """Whether all first pages are in the queue, pushed by this machine or by another one."""
        if self._seed_task is not None:
            if not self._seed_task.done():
                return False
            self._seed_task.result()  # raise an unexpected error of the seeding
        if not self._state.record.seeded:
            await self._state.read()
        return self._state.record.seeded

    def _state_word(self, counts: Counts) -> str:
        if counts.leased or not counts.live:
            return "running"
        return "waiting" if self._children.ready else "starting"

    def _update_snapshot(
        self, state: str, counts: Counts, limits: Sequence[LimitView] | None = None, message: str = ""
    ) -> None:
        self.snapshot = self._meter.snapshot(
            state,
            counts,
            self._stats,
            closings=self._limits.closings,
            limits=self.snapshot.limits if limits is None else tuple(limits),
            outputs=self._written_outputs() if self.over else (),  # only the summary shows them
            incomplete=self._incomplete,
            workers=self._children.running,
            message=message,
            down=dict(self._children.down),
        )

    def _written_outputs(self) -> tuple[str, ...]:
        selected = [resource.name for resource in self._plan.resources if resource.selected]
        return written_outputs(self._plan.outputs, selected, output_base())

    def _check_end(self, counts: Counts, seeded: bool) -> None:
        """End the run when its work is done or a bound is reached."""
        options = self._options
        if counts.live == 0 and seeded and not options.keep_running:
            self.over = True
        elif options.for_s is not None and self._meter.elapsed_s >= options.for_s:
            self.fail(Exit.STOPPED, f"stopped at --for {options.for_s:g} s")
        elif options.max_items is not None and self._new_items >= options.max_items:
            self.fail(Exit.STOPPED, f"stopped at --max-items {options.max_items}")

    @property
    def _new_items(self) -> float:
        return self._stats.get("items", 0.0) - self._items_before

    async def _check_max_wait(self, counts: Counts) -> None:
        """Give up if the next task waits for a limit or a delay for longer than --max-wait."""
        max_wait_s, idle_s = self._options.max_wait_s, self._meter.idle_s
        if max_wait_s is None or idle_s is None or idle_s < IDLE_BEFORE_GIVING_UP_S:
            return
        waits = [(task.due_in_s, "the next task is delayed") for task in await self._queue.peek(1, "delayed")]
        if counts.ready and (limit := self._limits.soonest) and limit.opens_s:
            waits.append((limit.opens_s, f"{title_of(limit.name)} is closed"))
        if waits and min(waits)[0] > max_wait_s:
            wait_s, reason = min(waits)
            self.fail(
                Exit.GAVE_UP, f"{reason} for another {wait_s:.0f} s, more than --max-wait {max_wait_s:g} s"
            )

    # --- end

    def end(self) -> asyncio.Task[int]:
        """Drain the run; the task returns its exit code. Further calls return the same task."""
        if self._end_task is None:
            self._end_task = asyncio.create_task(self._end())
        return self._end_task

    def kill(self) -> None:
        """Send SIGKILL to the children."""
        self._children.kill()
        if self._demo is not None:
            self._demo.kill()

    async def close(self) -> None:
        """Stop whatever still runs and disconnect from the store."""
        self.over = True
        for task in (self._demo_task, self._end_task):
            if task is not None:
                task.cancel()
        await self._stop_seeding()
        await self._children.close()
        if self._demo is not None:
            with contextlib.suppress(Exception):
                await self._demo.stop(DEMO_STOP_S)
        if self._client is not None:
            with contextlib.suppress(Exception):
                await self._queue.close()
                await self._client.aclose()

    async def _end(self) -> int:
        self.over = True
        await self._stop_seeding()
        grace_s = DAMAGED_GRACE_S if self._store_is_damaged else self._plan.run.grace_s + DRAIN_EXTRA_S
        await self._children.drain(grace_s)
        return await self._conclude()

    async def _stop_seeding(self) -> None:
        """Stop pushing seeds; the same command pushes the rest when it resumes the run."""
        if self._seed_task is not None and not self._seed_task.done():
            self._seed_task.cancel()
            await asyncio.wait([self._seed_task])

    @property
    def _seeding_was_stopped(self) -> bool:
        return self._seed_task is not None and (self._seed_task.cancelled() or not self._seed_task.done())

    async def _conclude(self) -> int:
        """Finish the run in the store if its work is done; return the exit code and set the last snapshot."""
        try:
            with named_errors():
                await self._save_tally()
                counts = await self._checked_counts()
                if not self._is_superseded:
                    self._stats = await self._state.stats()
                    self._incomplete = await self._state.incomplete()
                    if counts.live == 0 and self._state.record.seeded and not self._seeding_was_stopped:
                        await self._finish()
        except StoreError as error:
            self.fail(Exit.STORE, str(error))
            self._conclude_without_store()
            return self._code
        code = self._exit_code(counts)
        self._meter.record_done(counts)
        self._update_snapshot(FINAL_STATES.get(code, "failed"), counts, message=self._message)
        return code

    async def _finish(self) -> None:
        """Finish the run in the store. Raises StoreDamaged if the store has lost it since its counts were read."""
        if (
            not await self._state.finish()
        ):  # then another machine has finished it, or it has work again, or it is lost
            await self._checked_counts()
        await self._report_unused_rules()

    def _conclude_without_store(self) -> None:
        """Set the last snapshot to what is known: what the store replied last, and what the children did since then."""
        self._add_to_stats(self._children.take_tally())
        if self._counts is None:
            self.snapshot = self._meter.empty_snapshot("failed", self._message)
        else:
            self._update_snapshot("failed", self._counts, message=self._message)

    async def _report_unused_rules(self) -> None:
        """Name the rate limits that matched no request: a wrong pattern leaves a server unprotected in silence."""
        if self._stats.get("requests"):
            for text in await unused_rules(self._plan, self._queue):
                self._progress.event(text)

    def _exit_code(self, counts: Counts) -> int:
        """The code of the failure, or what the counts say: work is left, something is missing, or done."""
        if self._code not in (Exit.DONE, Exit.STOPPED):
            return self._code
        if counts.live or self._seeding_was_stopped:
            return Exit.STOPPED
        has_new_dead_letters = counts.dead and counts.died > self._state.record.died_before
        return Exit.DEAD_LETTERS if has_new_dead_letters or self._incomplete else Exit.DONE
