"""One task on its way: sent, judged, written, settled. Each end of it is one call of one script."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from scrapeq.clock import Clock
from scrapeq.errors import Blocked, FetchError, LeaseLost, ScrapeqError, TooManyRedirects
from scrapeq.fetch import Egress, HopClosed
from scrapeq.limits.attribution import closed_by, costs_of, rates_told_to, rules_of, told_to
from scrapeq.limits.listening import listen
from scrapeq.limits.outcome import Outcome, actions_for, decide
from scrapeq.limits.readings import NOTHING
from scrapeq.limits.server_clock import ServerClocks
from scrapeq.limits.streaks import Streaks
from scrapeq.page import Page
from scrapeq.plan import Plan
from scrapeq.protocols import Extraction, Extractor, Sink, States, WalkStart
from scrapeq.queue import Entry, Queue, Settled
from scrapeq.queue.backoff import backoff_s
from scrapeq.queue.commands import ACK, ANSWER, ANSWERED, BURY, PUSH_COUNT, RELEASE, RETRY, UNANSWERED, UNSENT
from scrapeq.resource import GroupOf, check_payload
from scrapeq.supervise.slots import Fatal, Held, Tally, named_by_hand
from scrapeq.task import Group, Lease, NewTask

FAIL_PAUSE_S = 1.0  # for the other fetchers to hear that the run is over, before they take what ended it
ERROR_LENGTH = 500
MAX_HOPS = 10  # redirects of one task, over all the limits that they had to wait for

Told = Sequence[tuple[str, float, float]]
Refused = Sequence[tuple[str, float]]


@dataclass(slots=True)
class Means:
    """What a fetch worker hands to each visit."""

    plan: Plan
    queue: Queue
    egress: Egress
    extractor: Extractor
    sink: Sink
    states: States
    group_of: GroupOf
    clock: Clock
    tally: Tally = field(default_factory=Tally)
    streaks: Streaks = field(default_factory=Streaks)
    clocks: ServerClocks = field(default_factory=ServerClocks)
    events: list[str] = field(default_factory=list)
    fatal: Fatal | None = None
    stopping: asyncio.Event = field(default_factory=asyncio.Event)

    def end(self, fatal: Fatal) -> None:
        """The whole run ends, for this reason; the first one counts."""
        self.fatal = self.fatal or fatal
        self.stopping.set()


class Visit:
    """
    Args:
        means: What the worker has.
        held: The task and its lease.
    """

    def __init__(self, means: Means, held: Held) -> None:
        self._means = means
        self._held = held
        self._payload: dict[str, Any] = {}
        self._hops: list[Lease] = []  # grants of the redirect hops that were sent
        self._sent = ANSWERED
        self._sent_s = self._answered_s = 0.0
        self._guessed = 0  # a refusal that did not say for how long
        self._rates: Told = ()  # sizes and windows that the answer named
        self._costs: Refused = ()  # what the request has cost limits that charged it otherwise

    async def run(self) -> None:
        """
        From the pop to the ack, or whatever else becomes of it.

        Raises LeaseLost, OutputError and StoreError; all else about the task ends in the queue.
        """
        means, task = self._means, self._held.task
        try:
            self._payload = payload = check_payload(task.payload)
        except ScrapeqError as error:
            self._sent = UNSENT
            await self._bury(str(error))
            return
        if not means.egress.knows(self._held.lease.member):
            await self._unknown_member()
            return
        method, url = payload.get("method", "GET"), payload["url"]
        body = payload.get("body")
        page: Page | None = None
        failure: FetchError | None = None
        means.tally.requests += 1
        self._sent_s = means.clock.monotonic_s()
        try:
            page = await means.egress.send(
                method,
                url,
                headers=list((payload.get("headers") or {}).items()),
                body=body.encode() if isinstance(body, str) else None,
                hop=self._hop,
                named_hosts=named_by_hand(payload),
                member=self._held.lease.member,
            )
        except HopClosed as hop:
            await self._push_hop(hop)
            return
        except FetchError as error:
            failure = error
            self._sent = _sent(error)
        self._answered_s = means.clock.monotonic_s()
        # the answer is that of the last hop, and speaks of its limits
        group = self._group(page.method, page.url) if page and self._hops else self._group(method, url)
        now_s = means.clock.now_s()
        names = {"seed": payload.get("seed"), "parent": payload.get("parent"), "now": now_s}
        rules = rules_of(group, means.plan.rate_limits)
        observed, heard = listen(page, now_s, rules, names) if page else (NOTHING, None)
        streak = means.streaks.with_this(self._counted_as(group), self._sent_s)
        outcome = decide(
            actions_for(means.plan, payload["resource"]),
            resource=payload["resource"],
            method=method,
            url=url,
            page=page,
            error=failure,
            observation=observed,
            refusals_in_a_row=streak,
            names=names,
            heard=heard,
        )
        self._costs = costs_of(
            group,
            outcome,
            means.plan.rate_limits,
            resource=payload["resource"],
            method=method,
            url=url,
            page=page,
            error=failure,
            names=names,
        )
        await self._conclude(group, page, outcome, streak)

    async def _conclude(self, group: Group, page: Page | None, outcome: Outcome, streak: int) -> None:
        means = self._means
        rules = means.plan.rate_limits
        told: Told = told_to(
            group, outcome, rules, clocks=means.clocks, sent_s=self._sent_s, answered_s=self._answered_s
        )
        self._guessed, self._rates = outcome.guessed, rates_told_to(group, outcome, rules)
        action = outcome.action
        refused: Refused = ()
        if action == "rate_limited":
            names = closed_by(group, outcome.scope, self._held.lease.member, means.egress.members)
            refused = [(name, outcome.wait_s or 0.0) for name in names]
            means.tally.refused += 1
            means.streaks.refused(self._counted_as(group), streak, means.clock.monotonic_s())
        elif page is not None:
            means.streaks.answered(self._counted_as(group))
        told, refused = self._settle_hops(told, refused)
        if action == "rate_limited":
            await self._refused(outcome, told, refused)
        elif action == "success" and page is not None:
            await self._keep(page, told)
        elif action in ("success", "ignore"):
            await self._settle(self._entry(ACK, told=told))
            means.tally.done += 1
        elif action == "retry":
            means.tally.retried += 1
            delay_s = max(backoff_s(self._held.task.attempts), outcome.wait_s or 0.0)
            settled = await self._settle(
                self._entry(RETRY, told=told, delay_s=delay_s, error=outcome.message)
            )
            if settled.outcome == "dead":
                self._died(outcome.message)
        elif action == "fail":
            means.end(Fatal("answer", outcome.message))
            await self._settle(self._entry(RELEASE, told=told, delay_s=FAIL_PAUSE_S, error=outcome.message))
        else:
            await self._bury(outcome.message, told=told)

    async def _keep(self, page: Page, told: Told) -> None:
        """Items to the sink, then the ack with what follows: never the other way round."""
        means, held = self._means, self._held
        chunks = means.extractor.chunks(self._payload, held.task.priority, page)
        follow: list[NewTask] = []
        last = Extraction()
        while True:
            try:
                found = await anext(chunks, None)
            except ScrapeqError as error:
                await self._bury(str(error), told=told)
                return
            if found is None:
                break
            last = found
            means.tally.skipped += found.skipped
            means.events += found.events
            if found.items:
                # the limits learn of the answer now; the sink may take its time
                answer = means.queue.settle_soon(self._entry(ANSWER, told=told))
                told = ()
                try:
                    written = await means.sink.commit(held.task.id, held.lease.token, found.items)
                finally:
                    await answer
                means.tally.items += written  # not in one line: others add to it while we wait
            follow += [*found.follow_ups, *await self._started(found.starts)]
            while len(follow) > PUSH_COUNT:  # under the same lease, and never held up by a full queue
                await self._settle(self._entry(ANSWER, told=told, push=follow[:PUSH_COUNT]))
                told, follow = (), follow[PUSH_COUNT:]
        if last.next_page is not None:
            follow.append(last.next_page)
        settled = await self._settle(self._entry(ACK, told=told, push=follow))
        if last.next_page is not None and settled.pushed[-1].outcome == "duplicate":
            name, number = self._payload["resource"], self._payload.get("page", 1)
            means.events.append(f"loop   {name}: the page after page {number} has been asked for already")
        if last.keep is not None:
            await means.states.keep(*last.keep)
        means.tally.done += 1

    async def _started(self, starts: Sequence[WalkStart]) -> list[NewTask]:
        """The first pages of walks, from where the last ones ended."""
        if not starts:
            return []
        kept = await self._means.states.get_many([start.state_key for start in starts])
        tasks = [start.build(state) for start, state in zip(starts, kept, strict=True)]
        self._means.tally.skipped += tasks.count(None)
        return [task for task in tasks if task is not None]

    async def _refused(self, outcome: Outcome, told: Told, refused: Refused) -> None:
        """A refusal becomes a visibility delay and a closed limit; no attempt is charged, nobody waits here."""
        means, wait_s = self._means, outcome.wait_s or 0.0
        if outcome.max_wait_s is not None and wait_s > outcome.max_wait_s and outcome.on_exceed != "park":
            message = f"{outcome.message}: a wait of {wait_s:.0f} s is more than max_wait ({outcome.max_wait_s:.0f} s)"
            if outcome.on_exceed == "dead_letter":
                await self._bury(message, told=told, refused=refused)
                return
            means.end(Fatal("limit", message))
        task_alone = outcome.scope == "task"
        await self._settle(
            self._entry(
                RELEASE,
                told=told,
                refused=refused,
                delay_s=wait_s if task_alone else 0.0,
                error=outcome.message,
            )
        )
        where = (
            f"task {self._held.task.id}"
            if task_alone
            else ", ".join(name for name, _ in refused) or "a hop's limit"
        )
        means.events.append(f"parked {where} for {wait_s:.0f} s: {outcome.message}")

    def _counted_as(self, group: Group) -> str:
        """Refusals in a row are those of one group, and of one token of a pool."""
        return group.name + self._held.lease.member

    async def _unknown_member(self) -> None:
        """Another machine of this run has other tokens: sent with one of ours it would be charged to the wrong one."""
        name = self._held.lease.member
        message = f"client.auth: this machine has no token {name}; all machines of a run need the same"
        self._sent = UNSENT
        self._means.end(Fatal("answer", message))
        await self._settle(self._entry(RELEASE, delay_s=FAIL_PAUSE_S, error=message))

    # --- redirects

    async def _hop(self, url: str, method: str) -> bool:
        """May this redirect hop be sent now? Its own limits say; their grant is held until its answer."""
        self._means.tally.redirects += 1
        grant = await self._means.queue.acquire(self._group(method, url), member=self._held.lease.member)
        if grant is None:
            return False
        self._hops.append(grant)
        self._means.tally.requests += 1
        return True

    def _settle_hops(self, told: Told, refused: Refused) -> tuple[Told, Refused]:
        """Give back the hops' grants: what the answer said belongs to the last. -> what is left for the task's own."""
        for lease in self._hops[:-1]:
            self._means.queue.settle_soon(Entry(ACK, lease))
        if not self._hops:
            return told, refused
        last = Entry(ACK, self._hops[-1], sent=self._sent, age_s=self._age_s(), told=told, refused=refused)
        self._means.queue.settle_soon(
            last._replace(guessed=self._guessed, rates=self._rates, costs=self._costs)
        )
        self._rates = self._costs = ()
        self._sent = ANSWERED  # the first request was: by a redirect
        return (), ()

    async def _push_hop(self, hop: HopClosed) -> None:
        """A hop that meets a closed limit becomes the task; it has no identity, for its address may be others' too."""
        self._answered_s = self._means.clock.monotonic_s()
        self._settle_hops((), ())
        hops = self._payload.get("hops", 0) + len(self._hops) + 1
        if hops > MAX_HOPS:
            await self._bury(f"more than {MAX_HOPS} redirects, the last to {hop.url}")
            return
        body = hop.body.decode("utf-8", "replace") if hop.body is not None else None
        following = {
            **self._payload,
            "method": hop.method,
            "url": hop.url,
            "headers": dict(hop.headers),
            "body": body,
            "hops": hops,
        }
        task = NewTask(following, self._held.task.priority, group=self._group(hop.method, hop.url))
        await self._settle(self._entry(ACK, push=[task]))
        self._means.tally.done += 1

    # --- settling

    def _group(self, method: str, url: str) -> Group:
        payload = self._payload
        return self._means.group_of(
            payload["resource"], method, url, payload.get("seed") or {}, payload.get("parent")
        )

    def _age_s(self) -> float:
        return self._means.clock.monotonic_s() - self._answered_s if self._answered_s else 0.0

    def _entry(
        self,
        verb: int,
        *,
        told: Told = (),
        refused: Refused = (),
        delay_s: float = 0.0,
        error: str = "",
        push: Sequence[NewTask] = (),
    ) -> Entry:
        rates, self._rates = self._rates, ()  # told once
        costs, self._costs = self._costs, ()
        return Entry(
            verb,
            self._held.lease,
            self._sent,
            self._age_s(),
            delay_s,
            self._means.queue.max_attempts,
            told=told,
            refused=refused,
            guessed=self._guessed,
            rates=rates,
            error=error[:ERROR_LENGTH],
            push=push,
            costs=costs,
        )

    async def _bury(self, error: str, *, told: Told = (), refused: Refused = ()) -> None:
        await self._settle(self._entry(BURY, told=told, refused=refused, error=error))
        self._died(error)

    def _died(self, error: str) -> None:
        self._means.tally.dead += 1
        resource = self._payload.get("resource", "?")
        self._means.events.append(f"dead   {resource}: {error[:ERROR_LENGTH]} ({self._held.task.id})")

    async def _settle(self, entry: Entry) -> Settled:
        settled = await self._means.queue.settle(entry)
        if settled.outcome == "lost":
            raise LeaseLost(f"task {self._held.task.id}: its lease ran out")
        return settled


def _sent(error: FetchError) -> int:
    """What became of a request that ended in an error: redirects are answers, too."""
    if isinstance(error, Blocked):
        return ANSWERED if error.was_sent else UNSENT
    return ANSWERED if isinstance(error, TooManyRedirects) else UNANSWERED
