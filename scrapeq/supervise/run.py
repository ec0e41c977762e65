"""One plan on its way: its children, its run in the store, how it stands and whether it is over."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TextIO

import structlog

from scrapeq.errors import QueueFull, ScrapeqError, StoreError, UsageError
from scrapeq.exit_codes import Exit
from scrapeq.inspect.limit_views import LimitWatch, title_of
from scrapeq.limits.definitions import limits_of
from scrapeq.plan import Plan
from scrapeq.processes.runtime_folder import writer_socket
from scrapeq.protocols import Progress, Snapshot
from scrapeq.queue import Counts, Queue
from scrapeq.resource import TaskBuilder, first_pages
from scrapeq.resource.seeds import starts_by_itself
from scrapeq.sink import written_outputs
from scrapeq.store.check import LOAD_TIMEOUT_S, check_server, named_errors
from scrapeq.supervise.child_supervision import ChildSupervision
from scrapeq.supervise.options import RunOptions
from scrapeq.supervise.run_state import RunState
from scrapeq.supervise.sample_api import SampleApi
from scrapeq.supervise.schedules import schedules_of, start_schedules
from scrapeq.wiring import (
    WorkerSettings,
    group_function,
    open_queue_of,
    output_base,
    pools_of,
    tokens_file,
    with_base_url,
)
from scrapeq.writer.client import WriterProcess

log = structlog.get_logger("scrapeq.run")

RATE_WINDOW_S = 10.0
MONITOR_PATIENCE_S = 1.0
ENDINGS: dict[int, str] = {
    Exit.DONE: "finished",
    Exit.DEAD_LETTERS: "finished",
    Exit.GAVE_UP: "gave_up",
    Exit.STOPPED: "stopped",
}
DRAIN_EXTRA_S = 2.0  # after the grace time, in which a fetcher ends by itself
GIVE_UP_S = 3.0  # of nothing in flight before --max-wait is judged: a probe may be on its way
# a store that is away for long, or that loads, is judged by who watches it: it ends the run, and the seeding with it
SEED_PATIENCE_S = LOAD_TIMEOUT_S


@dataclass
class PlanRun:
    """
    Args:
        plan: The plan.
        options: What the command line adds.
        folder: The data folder.
        store_url: The store.
        progress: Where events are shown.
        log_file: Where children log.
    """

    plan: Plan
    options: RunOptions
    folder: Path
    store_url: str
    progress: Progress
    log_file: TextIO | None
    over: bool = False
    code: int = 0
    message: str = ""
    snapshot: Snapshot = field(init=False)
    _demo: SampleApi | None = None
    _demo_restarter: asyncio.Task[None] | None = None
    _seeding: asyncio.Task[None] | None = None
    _ending: asyncio.Task[int] | None = None
    _client: Any = None

    def __post_init__(self) -> None:
        self._started_s = time.monotonic()
        self.snapshot = Snapshot(self.plan.name, "starting", 0.0)
        self._done_at: list[tuple[float, int]] = []
        self._idle_since_s: float | None = None
        self._waited_s = 0.0
        self._last_tick_s = self._started_s
        self._stats: dict[str, float] = {}
        self._base_items = 0.0
        self._occurrence = 0
        self._later: set[str] = set()  # resources whose schedules are due later
        self._children = ChildSupervision(self.log_file, self.progress.event, self.fail, lambda: self.over)

    async def start(self) -> None:
        """Everything, in the order that has the first request on its way soonest. Raises ScrapeqError."""
        with named_errors():
            await self._start()

    async def _start(self) -> None:
        self._check_only()
        self._queue, self._client = open_queue_of(self.plan, self.store_url, patience_s=MONITOR_PATIENCE_S)
        await check_server(self._client, self.store_url)
        self._state = RunState(self._client, self._queue)
        if self.options.full_refresh and self.options.role != "fetcher":
            await self._state.forget(self.options.only or None)
        fresh = await self._state.begin()
        if self.plan.redis.url == "embedded":  # its lock is ours: whoever held a lease here was killed
            await self._queue.end_leases()
        self._base_items = (await self._state.stats()).get("items", 0.0)
        self._limits = LimitWatch(self._queue)
        base_url = await self._start_demo() if self.plan.client.base_url.startswith("demo:") else ""
        plan = with_base_url(self.plan, base_url)
        await self._queue.define(limits_of(plan.rate_limits))
        await self._queue.set_order(plan.queue.order)
        await self._queue.define_pools(pools_of(plan))
        only, keep = self.options.only, self.options.keep_running and self.options.role != "fetcher"
        self._occurrence, self._later = await start_schedules(
            plan, self._state, self._queue, self._client, only=only, fresh=fresh, keep=keep
        )
        what = f"{plan.name} {'begins' if fresh else 'resumes'}"
        writer = self._start_fetchers(plan) if self.options.role != "scheduler" else None
        await asyncio.sleep(0)
        if self.options.role != "fetcher":
            # beside all else: a bounded queue that blocks waits for the fetchers, and may wait for long
            self._seeding = asyncio.create_task(self._seed(plan, what))
        else:
            self._tell_counts(what, await self._queue.counts())
        if writer is not None:
            await self._children.keep_writer(writer)
        if self.options.role != "fetcher":
            settings: dict[str, Any] = {"name": plan.name, "store_url": self.store_url, "only": only}
            if keep and schedules_of(plan, only):
                worker = WorkerSettings(
                    plan.file, plan.source, dict(plan.overrides), self.store_url, plan.client.base_url
                )
                settings["worker"] = asdict(worker)
            self._children.keep("scheduler", "scrapeq.supervise.scheduler_process", settings)

    def _check_only(self) -> None:
        unknown = set(self.options.only) - {resource.name for resource in self.plan.resources}
        if unknown:
            known = ", ".join(resource.name for resource in self.plan.resources)
            raise UsageError(f"--only: no resource is called {sorted(unknown)[0]!r}; there are: {known}")
        if self.options.only and not any(map(starts_by_itself, map(self.plan.resource, self.options.only))):
            names = ", ".join(self.options.only)
            self.progress.event(f"check  --only: nothing begins with {names}; name what it follows from, too")

    async def _seed(self, plan: Plan, what: str) -> None:
        """Push the seeds and say so; what keeps them from being pushed ends the run."""
        bound, on_full = plan.queue.max_tasks, plan.queue.on_full
        patient = Queue(self._client, plan.name, max_tasks=bound, on_full=on_full, patience_s=SEED_PATIENCE_S)
        try:
            with named_errors():
                builder = TaskBuilder(plan, group_function(plan))
                wanted = self.options.only or [resource.name for resource in plan.resources]
                wanted = [name for name in wanted if name not in self._later]
                firsts = first_pages(builder, time.time(), wanted, self._occurrence)
                await self._state.seed(firsts, patient)
                self._tell_counts(what, await patient.counts())
        except (StoreError, QueueFull) as error:
            self.fail(Exit.STORE, f"the seeds cannot be pushed: {error}")
        except ScrapeqError as error:
            self.fail(Exit.USAGE, f"the seeds cannot be pushed: {error}")
        finally:
            await patient.close()

    def _tell_counts(self, what: str, counts: Counts) -> None:
        tasks = "1 task" if counts.live == 1 else f"{counts.live} tasks"
        dead = "1 dead letter" if counts.dead == 1 else f"{counts.dead} dead letters"
        self.progress.event(f"{what}: {tasks} to do, {dead}")

    async def _all_seeded(self) -> bool:
        """Has all been pushed that the run begins with, by this machine or another?"""
        if self._seeding is not None:
            if not self._seeding.done():
                return False
            self._seeding.result()  # an error that nobody foresaw is not kept silent
        if not self._state.record.seeded:
            await self._state.read()
        return self._state.record.seeded

    async def _start_demo(self) -> str:
        """The sample API of this run, on the port that its tasks hold."""
        self._demo = SampleApi(self.log_file, self.progress.event)
        url = await self._demo.start(self._state.record.demo_port)
        await self._state.remember_demo(self._demo.port)
        self._demo_restarter = asyncio.create_task(self._demo.keep())
        return url

    def _start_fetchers(self, plan: Plan) -> WriterProcess:
        """Fetchers are on their way; the writer that they need, not yet."""
        socket = writer_socket(self.folder, plan.file, plan.name)
        worker = WorkerSettings(
            plan.file,
            plan.source,
            dict(plan.overrides),
            self.store_url,
            plan.client.base_url,
            str(socket),
            plan.run.concurrency,
            self.options.lease_s,
            self.options.max_requests,
            str((self.folder / f"{plan.name}.cache.db").absolute()),
            str(tokens_file(self.folder, plan)),
        )
        settings = {**asdict(worker), "grace_s": plan.run.grace_s}
        # a bound on requests is exact in one process
        for number in range(plan.run.workers if self.options.max_requests is None else 1):
            self._children.keep(f"fetcher {number + 1}", "scrapeq.worker.process", settings)
        return WriterProcess(
            plan.outputs,
            base=output_base(),
            path=socket,
            stderr=self.log_file,
            data=self.folder / "outputs",
            name=plan.name,
            run=self._state.record.id,
        )

    # --- how it stands

    async def tick(self) -> None:
        """Look, and judge whether it is over. Raises StoreError while the store is away."""
        if self.over:
            return
        tally = self._children.take_tally()
        try:
            await self._state.add(tally)
        except Exception:
            self._children.add_tally(tally)
        with named_errors():
            seeded = await self._all_seeded()  # before the counts, else its last tasks may be missing in them
            counts = await self._queue.counts()
            self._stats = await self._state.stats()
            views = await self._limits.look()
            self._measure(counts)
            await self._judge_wait(counts)
        state = (
            "running"
            if counts.leased or not counts.live
            else "waiting"
            if self._children.ready
            else "starting"
        )
        self._show(state, counts, views)
        self._judge(counts, seeded)

    def _measure(self, counts: Counts) -> None:
        now_s = time.monotonic()
        if counts.live and not counts.leased and self._children.ready:
            self._waited_s += now_s - self._last_tick_s
            self._idle_since_s = self._idle_since_s or now_s
        else:
            self._idle_since_s = None
        self._last_tick_s = now_s
        self._done_at.append((now_s, counts.done + counts.died))
        while self._done_at[0][0] < now_s - RATE_WINDOW_S:
            self._done_at.pop(0)

    def _show(self, state: str, counts: Counts, views: Any = None, message: str = "") -> None:
        (first_s, first), (last_s, last) = self._done_at[0], self._done_at[-1]
        per_s = (
            (last - first) / (last_s - first_s) if last_s > first_s else 0.0
        )  # dead ones are worked off, too
        self.snapshot = Snapshot(
            self.plan.name,
            state,
            time.monotonic() - self._started_s,
            ready=counts.ready,
            delayed=counts.delayed,
            leased=counts.leased,
            dead=counts.dead,
            done=int(self._stats.get("done", 0)),
            per_s=per_s,
            requests=int(self._stats.get("requests", 0)),
            refused=int(self._stats.get("refused", 0)),
            retried=int(self._stats.get("retried", 0)),
            not_modified=int(self._stats.get("not_modified", 0)),
            cached=int(self._stats.get("cached", 0)),
            items=int(self._stats.get("items", 0)),
            waited_s=self._waited_s,
            closings=self._limits.closings,
            left_s=counts.live / per_s if per_s > 0 else None,
            limits=tuple(views) if views is not None else self.snapshot.limits,
            outputs=self._outputs() if self.over else (),  # the summary alone shows them
            workers=self._children.running,
            message=message,
        )

    def _outputs(self) -> tuple[str, ...]:
        selected = [resource.name for resource in self.plan.resources if resource.selected]
        return written_outputs(self.plan.outputs, selected, output_base())

    def _judge(self, counts: Counts, seeded: bool) -> None:
        options = self.options
        if counts.live == 0 and seeded and not options.keep_running:
            self.over = True
        elapsed_s = time.monotonic() - self._started_s
        for bound, reached, what in (
            (options.for_s, elapsed_s, f"--for {options.for_s:g} s" if options.for_s else ""),
            (
                options.max_items,
                self._stats.get("items", 0) - self._base_items,
                f"--max-items {options.max_items}",
            ),
        ):
            if bound is not None and reached >= bound and not self.over:
                self.fail(Exit.STOPPED, f"stopped at {what}")

    async def _judge_wait(self, counts: Counts) -> None:
        """`--max-wait`: is what comes next, at a limit or after a delay, farther away?"""
        most_s, since_s = self.options.max_wait_s, self._idle_since_s
        if most_s is None or since_s is None or time.monotonic() - since_s < GIVE_UP_S:
            return
        waits = [(task.due_in_s, "the next task is delayed") for task in await self._queue.peek(1, "delayed")]
        if counts.ready and (limit := self._limits.soonest) and limit.opens_s:
            waits.append((limit.opens_s, f"{title_of(limit.name)} is closed"))
        if waits and min(waits)[0] > most_s:
            wait_s, what = min(waits)
            self.fail(Exit.GAVE_UP, f"{what} for another {wait_s:.0f} s, more than --max-wait {most_s:g} s")

    def fail(self, code: int, message: str) -> None:
        """It is over, for this reason; the first one counts."""
        if not self.code:
            self.code, self.message = code, message
        self.over = True

    # --- the end

    def end(self) -> asyncio.Task[int]:
        """Drain it and say how it ended: its exit code. Asked again, the same ending."""
        if self._ending is None:
            self._ending = asyncio.create_task(self._end())
        return self._ending

    async def _end(self) -> int:
        self.over = True
        await self._stop_seeding()
        await self._children.drain(self.plan.run.grace_s + DRAIN_EXTRA_S)
        return await self._conclude()

    async def _stop_seeding(self) -> None:
        """What is not pushed yet is pushed when the same command resumes the run."""
        if self._seeding is not None and not self._seeding.done():
            self._seeding.cancel()
            await asyncio.wait([self._seeding])

    @property
    def _unseeded(self) -> bool:
        return self._seeding is not None and (self._seeding.cancelled() or not self._seeding.done())

    async def _conclude(self) -> int:
        """How it ended: the exit code, and the last snapshot."""
        try:
            with named_errors():
                await self._state.add(self._children.take_tally())
                counts = await self._queue.counts()
                self._stats = await self._state.stats()
                if counts.live == 0 and self._state.record.seeded and not self._unseeded:
                    await self._state.finish()
        except StoreError as error:
            self.fail(Exit.STORE, str(error))
            self.snapshot = Snapshot(
                self.plan.name, "failed", time.monotonic() - self._started_s, message=self.message
            )
            return self.code
        code = self.code
        if code in (Exit.DONE, Exit.STOPPED):
            died = bool(counts.dead) and counts.died > self._state.record.died_before
            left = counts.live or self._unseeded
            code = Exit.STOPPED if left else Exit.DEAD_LETTERS if died else Exit.DONE
        self._done_at.append((time.monotonic(), counts.done + counts.died))
        self._show(ENDINGS.get(code, "failed"), counts, message=self.message)
        return code

    def kill(self) -> None:
        """At once."""
        self._children.kill()
        if self._demo is not None:
            self._demo.kill()

    async def close(self) -> None:
        """Whatever still runs ends."""
        self.over = True
        for task in (self._demo_restarter, self._ending):
            if task is not None:
                task.cancel()
        await self._stop_seeding()
        await self._children.close()
        if self._demo is not None:
            with contextlib.suppress(Exception):
                await self._demo.stop(1.0)
        if self._client is not None:
            queue: Queue = self._queue
            with contextlib.suppress(Exception):
                await queue.close()
                await self._client.aclose()
