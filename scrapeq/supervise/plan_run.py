"""One plan on its way: its children, its run in the store, how it stands and whether it is over."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import structlog

from scrapeq.errors import ScrapeqError, StoreError, UsageError
from scrapeq.grants import limits_of
from scrapeq.plan import Plan
from scrapeq.protocols import Progress, Snapshot
from scrapeq.queue import Counts, Queue
from scrapeq.resource import first_tasks
from scrapeq.supervise.assemble import (
    Errand,
    group_function,
    open_queue_of,
    output_base,
    with_base_url,
)
from scrapeq.supervise.children import Child, RestartPause
from scrapeq.supervise.limit_views import LimitWatch, title_of
from scrapeq.supervise.run_state import RunState
from scrapeq.supervise.runtime import runtime_folder
from scrapeq.supervise.sample_api import SampleApi
from scrapeq.supervise.store_check import check_server, named_errors
from scrapeq.supervise.writer_client import WriterProcess

if TYPE_CHECKING:
    from scrapeq.supervise.supervisor import RunOptions

log = structlog.get_logger("scrapeq.run")

RESTART_FIRST_S, RESTART_MAX_S = 0.25, 30.0
WRITER_RESTART_FIRST_S = 0.1  # every fetcher waits for it
KEEPERS_S = 1.0
RATE_WINDOW_S = 10.0
WRITER_GRACE_S = 30.0
MONITOR_PATIENCE_S = 1.0
GIVE_UP_S = 3.0  # of nothing in flight before --max-wait is judged: a probe may be on its way
FATAL = {"output": 7, "limit": 4, "answer": 8, "bound": 5}


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
    draining: bool = False
    over: bool = False
    code: int = 0
    message: str = ""
    snapshot: Snapshot = field(init=False)
    _children: list[Child] = field(default_factory=list)
    _keepers: list[asyncio.Task[None]] = field(default_factory=list)
    _tally: dict[str, float] = field(default_factory=dict)
    _writer: WriterProcess | None = None
    _demo: SampleApi | None = None
    _demo_keeper: asyncio.Task[None] | None = None
    _writer_keeper: asyncio.Task[None] | None = None
    _client: Any = None

    def __post_init__(self) -> None:
        self._started_s = time.monotonic()
        self.snapshot = Snapshot(self.plan.name, "starting", 0.0)
        self._done_at: list[tuple[float, int]] = []
        self._idle_since_s: float | None = None
        self._waited_s = 0.0
        self._last_tick_s = self._started_s
        self._stats: dict[str, float] = {}
        self._base_done = 0
        self._base_items = 0.0
        self._ready = False

    async def start(self) -> None:
        """Everything, in the order that has the first request on its way soonest. Raises ScrapeqError."""
        with named_errors():
            await self._start()

    async def _start(self) -> None:
        self._queue, self._client = open_queue_of(self.plan, self.store_url, patience_s=MONITOR_PATIENCE_S)
        await check_server(self._client, self.store_url)
        self._state = RunState(self._client, self._queue)
        fresh = await self._state.begin()
        base_url = await self._start_demo() if self.plan.client.base_url.startswith("demo:") else ""
        plan = with_base_url(self.plan, base_url)
        await self._queue.define(limits_of(plan.rate_limits))
        if self.options.role != "scheduler":
            await self._start_fetchers(plan)
        if self.options.role != "fetcher":
            await self._seed(plan)
            settings = {"name": plan.name, "store_url": self.store_url}
            self._keep("scheduler", "scrapeq.supervise.scheduling", settings)
        self._limits = LimitWatch(self._queue)
        counts = await self._queue.counts()
        self._base_done = counts.done
        self._base_items = (await self._state.stats()).get("items", 0.0)
        what = "begins" if fresh else "resumes"
        self.progress.event(f"{plan.name} {what}: {counts.live} tasks to do, {counts.dead} dead letters")

    async def _seed(self, plan: Plan) -> None:
        only = self.options.only or None
        unknown = set(self.options.only) - {resource.name for resource in plan.resources}
        if unknown:
            known = ", ".join(resource.name for resource in plan.resources)
            raise UsageError(f"--only: no resource is called {sorted(unknown)[0]!r}; there are: {known}")
        # a bounded queue that blocks must not keep the fetchers from making room: they run already
        await self._state.seed(first_tasks(plan, group_function(plan), time.time(), only))

    async def _start_demo(self) -> str:
        """The sample API of this run, on the port that its tasks hold."""
        self._demo = SampleApi(self.log_file, self.progress.event)
        url = await self._demo.start(self._state.record.demo_port)
        await self._state.remember_demo(self._demo.port)
        self._demo_keeper = asyncio.create_task(self._demo.keep())
        return url

    async def _start_fetchers(self, plan: Plan) -> None:
        socket = runtime_folder(self.folder) / f"w-{plan.name[:32]}.sock"
        writer = WriterProcess(plan.outputs, base=output_base(), path=socket)
        self._writer = writer
        errand = Errand(
            plan.file,
            plan.source,
            dict(plan.overrides),
            self.store_url,
            plan.client.base_url,
            str(socket),
            plan.run.concurrency,
            self.options.lease_s,
            self.options.max_requests,
        )
        settings = {**asdict(errand), "grace_s": plan.run.grace_s}
        # a bound on requests is exact in one process
        for number in range(plan.run.workers if self.options.max_requests is None else 1):
            self._keep(f"fetcher {number + 1}", "scrapeq.supervise.fetcher_process", settings)
        await asyncio.sleep(0)
        await writer.start()
        self._writer_keeper = asyncio.create_task(self._keep_writer(writer))

    # --- children

    def _keep(self, name: str, module: str, settings: dict[str, Any]) -> None:
        self._keepers.append(asyncio.create_task(self._keep_child(name, module, settings)))

    async def _keep_child(self, name: str, module: str, settings: dict[str, Any]) -> None:
        """Start a child, listen to it, start it again when it dies, after a pause that doubles."""
        pause = RestartPause(RESTART_FIRST_S, RESTART_MAX_S)
        while not self.draining and not self.over:
            child = Child(module, settings, listen=True, stderr=self.log_file)
            started_s = time.monotonic()
            await child.start()
            self._children.append(child)
            if self.draining:  # it was being started while the others were told to stop
                child.send_signal(signal.SIGTERM)
            try:
                worked = await self._listen(child)
                code = await child.wait()
            finally:
                self._children.remove(child)
            if self.draining or self.over:
                return
            pause.lived(time.monotonic() - started_s, worked=worked)
            pause_s = pause.next_s()
            log.warning("child ended", child=name, code=code)
            self.progress.event(f"{name} ended (code {code}) and starts again in {pause_s:g} s")
            await asyncio.sleep(pause_s)

    async def _listen(self, child: Child) -> bool:
        """Until it ends; whether it finished any task."""
        worked = False
        while isinstance(said := await child.line(), dict):
            worked = worked or "done" in said.get("tally", {})
            self._ready = self._ready or "ready" in said
            for name, count in said.get("tally", {}).items():
                self._tally[name] = self._tally.get(name, 0) + count
            for event in said.get("events", ()):
                self.progress.event(event)
            if "fatal" in said:
                self.fail(FATAL[said["fatal"]], said["message"])
            if "error" in said:
                log.error("child", error=said["error"])
        return worked

    async def _keep_writer(self, writer: WriterProcess) -> None:
        pause = RestartPause(WRITER_RESTART_FIRST_S, RESTART_MAX_S)
        while not self.draining:
            started_s = time.monotonic()
            code = await writer.wait()
            if self.draining:
                return
            pause.lived(time.monotonic() - started_s)
            log.error("writer ended", code=code)
            self.progress.event(f"the writer ended (code {code}) and starts again")
            await asyncio.sleep(pause.next_s())
            try:
                await writer.start()
            except ScrapeqError as error:
                self.fail(FATAL["output"], str(error))
                return

    # --- how it stands

    async def tick(self) -> None:
        """Look, and judge whether it is over. Raises StoreError while the store is away."""
        if self.over:
            return
        tally, self._tally = self._tally, {}
        try:
            await self._state.add(tally)
        except Exception:
            for name, count in tally.items():
                self._tally[name] = self._tally.get(name, 0) + count
        with named_errors():
            counts = await self._queue.counts()
            self._stats = await self._state.stats()
            views = await self._limits.look()
            self._measure(counts)
            await self._judge_wait(counts)
        state = "running" if counts.leased or not counts.live else "waiting" if self._ready else "starting"
        self._show(state, counts, views)
        self._judge(counts)

    def _measure(self, counts: Counts) -> None:
        now_s = time.monotonic()
        if counts.live and not counts.leased and self._ready:
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
            done=counts.done - self._base_done,
            per_s=per_s,
            requests=int(self._stats.get("requests", 0)),
            refused=int(self._stats.get("refused", 0)),
            retried=int(self._stats.get("retried", 0)),
            items=int(self._stats.get("items", 0)),
            waited_s=self._waited_s,
            closings=self._limits.closings,
            left_s=counts.live / per_s if per_s > 0 else None,
            limits=tuple(views) if views is not None else self.snapshot.limits,
            outputs=self._outputs(),
            workers=sum(1 for child in self._children if child.running),
            message=message,
        )

    def _outputs(self) -> tuple[str, ...]:
        paths = []
        for output in self.plan.outputs:
            for resource in self.plan.resources:
                if resource.selected and (not output.resources or resource.name in output.resources):
                    path = str(output.path.render({"resource": resource.name}))
                    if path not in paths and (output_base() / path).exists():
                        paths.append(path)
        return tuple(paths)

    def _judge(self, counts: Counts) -> None:
        options = self.options
        if counts.live == 0 and self._state.record.seeded and not options.keep_running:
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
                self.fail(5, f"stopped at {what}")

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
            self.fail(4, f"{what} for another {wait_s:.0f} s, more than --max-wait {most_s:g} s")

    def fail(self, code: int, message: str) -> None:
        """It is over, for this reason; the first one counts."""
        if not self.code:
            self.code, self.message = code, message
        self.over = True

    # --- the end

    async def drain(self) -> None:
        """Stop taking tasks, finish what is in flight within the grace time, commit what was written."""
        self.draining = True
        grace_s = self.plan.run.grace_s + 2.0
        await asyncio.gather(*(child.stop(grace_s) for child in list(self._children)))
        if self._keepers:  # they have seen their children end, or sleep before they start one again
            await asyncio.wait(self._keepers, timeout=KEEPERS_S)
        if self._writer is not None and await self._writer.stop(WRITER_GRACE_S) == FATAL["output"]:
            self.fail(FATAL["output"], "the output could not be written")

    async def conclude(self) -> int:
        """How it ended: the exit code, and the last snapshot."""
        try:
            with named_errors():
                await self._state.add(self._tally)
                self._tally = {}
                counts = await self._queue.counts()
                self._stats = await self._state.stats()
                if counts.live == 0 and self._state.record.seeded:
                    await self._state.finish()
        except StoreError as error:
            self.fail(6, str(error))
            self.snapshot = Snapshot(
                self.plan.name, "failed", time.monotonic() - self._started_s, message=self.message
            )
            return self.code
        code = self.code
        if not code or code == 5:
            code = 5 if counts.live else 3 if counts.dead else 0
        states = {0: "finished", 3: "finished", 4: "gave_up", 5: "stopped"}
        self._done_at.append((time.monotonic(), counts.done + counts.died))
        self._show(states.get(code, "failed"), counts, message=self.message)
        return code

    def kill(self) -> None:
        """At once."""
        for child in self._children:
            child.send_signal(9)
        if self._demo is not None:
            self._demo.kill()

    async def close(self) -> None:
        """Whatever still runs ends."""
        self.draining = self.over = True
        for keeper in (*self._keepers, self._demo_keeper, self._writer_keeper):
            if keeper is not None:
                keeper.cancel()
        for child in (*self._children, self._demo):
            with contextlib.suppress(Exception):
                if child is not None:
                    await child.stop(1.0)
        if self._writer is not None:
            with contextlib.suppress(Exception):
                await self._writer.stop(WRITER_GRACE_S)
        if self._client is not None:
            queue: Queue = self._queue
            with contextlib.suppress(Exception):
                await queue.close()
                await self._client.aclose()
