"""One run of a task: send its request, judge the response, store its results or carry out its outcome."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from scrapeq.errors import (
    AuthFailed,
    BadResponse,
    Blocked,
    BrokenBody,
    FetchError,
    ScrapeqError,
    TooManyRedirects,
)
from scrapeq.fetch import AuthLimitClosed, HopClosed, Postponed
from scrapeq.fetch.cache_lookup import CacheLookup
from scrapeq.limits.judge import Exchange, Judgement
from scrapeq.page import Page
from scrapeq.queue.commands import ACK, NO_RESPONSE, RESPONDED, UNSENT, Delivery
from scrapeq.resource import Payload, check_payload
from scrapeq.resource.restart import is_restart
from scrapeq.responses.match import host_of
from scrapeq.responses.outcome import Outcome, actions_for
from scrapeq.responses.times import YEAR_S
from scrapeq.worker.auth_grants import TaskAuthGrants
from scrapeq.worker.carry_out import carry_out, fail_run, polls_of
from scrapeq.worker.context import LeasedTask, WorkerContext
from scrapeq.worker.page_results import store_results
from scrapeq.worker.redirect_hops import HOPS, may_send_hop, push_hop
from scrapeq.worker.settlement import Settlement

CHANGED_VALIDATOR = "304 for another entity tag than that of the cached response"


class TaskRun:
    """
    One run of a leased task, which ends with one call of one script.

    Args:
        context: What the worker shares.
        leased: The task and its lease.

    Attributes:
        page: The response, once there is one.
        judgement: What it means, once it is judged.
    """

    def __init__(self, context: WorkerContext, leased: LeasedTask) -> None:
        self.page: Page | None = None
        self.judgement: Judgement | None = None
        self._context = context
        self._leased = leased
        self._task = Settlement(context, leased)
        self._cache_lookup = CacheLookup(
            context.cache, context.plan.client, context.clock, leased.lease.credential
        )
        self._auth_grants = TaskAuthGrants(self._task)

    async def run(self) -> None:
        """
        Run the task, and settle it in the queue.

        Raises:
            LeaseLost, OutputError, StoreError: every other error ends in the queue.
        """
        context, task = self._context, self._task
        try:
            task.payload = payload = check_payload(self._leased.task.payload)
        except ScrapeqError as error:
            task.sent = UNSENT
            await task.bury(str(error))
            return
        if payload["resource"] not in context.resources:
            await self._end_unreadable(payload["resource"])
            return
        if not context.egress.has_credential(self._leased.lease.credential):
            await self._fail_for_unknown_credential()
            return
        cached = await self._from_cache(payload)
        if cached is not None:
            task.sent = UNSENT
            context.tally.cached += 1
            try:
                await store_results(task, cached)
            except BrokenBody as error:
                await self._finish_broken(self._exchange(payload, cached, None, None), error)
            return
        failure: FetchError | None = None
        context.tally.requests += 1
        task.sent_s = context.clock.monotonic_s()
        try:
            self.page = await self._send(payload)
        except HopClosed as hop:
            await push_hop(task, hop)
            return
        except Postponed as pending:
            await self._auth_grants.postpone(pending)
            return
        except AuthLimitClosed as closed:
            await self._auth_grants.give_back(closed)
            return
        except FetchError as error:
            failure = error
            task.sent = _sent(error)
        task.received_s = context.clock.monotonic_s()
        await self._finish(payload, self.page, failure)

    async def _from_cache(self, payload: Payload) -> Page | None:
        """Return the cached response while it is fresh."""
        if self._context.cache is None or HOPS in payload:  # a hop has another address than its cache key
            return None
        return await self._cache_lookup.fresh_response(
            payload.get("method", "GET"),
            payload["url"],
            list((payload.get("headers") or {}).items()),
            has_body=payload.get("body") is not None,
            may_use=not is_restart(payload),  # a pagination restarts because its responses are void
        )

    async def _send(self, payload: Payload) -> Page:
        body = payload.get("body")
        return await self._context.egress.send(
            payload.get("method", "GET"),
            payload["url"],
            headers=[*(payload.get("headers") or {}).items(), *self._cache_lookup.conditions],
            body=body.encode() if isinstance(body, str) else None,
            may_follow=self._may_send_hop,
            named_hosts=_user_named_hosts(payload),
            credential=self._leased.lease.credential,
            auth_grants=self._auth_grants,
            cookies=[dict(cookie) for cookie in payload.get("cookies") or ()],
        )

    async def _may_send_hop(self, url: str, method: str) -> bool:
        return await may_send_hop(self._task, method, url)

    async def _finish(self, payload: Payload, page: Page | None, failure: FetchError | None) -> None:
        """Judge the response, tell the limits, and store the results or carry out the outcome."""
        context, task = self._context, self._task
        revived = await self._cache_lookup.revalidated(page) if page is not None else None
        context.tally.not_modified += revived is not None
        exchange = self._exchange(payload, page, revived, failure)
        outcome, task.attribution = self.judgement = context.judge.judge(exchange)
        if outcome.message:  # servers echo what they received, and that may be a secret
            outcome = replace(outcome, message=context.egress.redact(outcome.message))
            self.judgement = Judgement(outcome, task.attribution)
        if isinstance(failure, AuthFailed):
            self._auth_grants.close_for(failure)
        if outcome.action != "refresh_auth":
            context.auth_retries.discard(self._leased.task.id)
        if outcome.action == "rate_limited":
            context.tally.refused += 1
        self._report_long_wait(outcome)
        self._note_host(page, failure, outcome)
        refused = [name for name, _ in task.attribution.refused]
        task.settle_hops()
        if outcome.action == "success" and page is not None:
            if revived is None and not outcome.is_past_end:
                await self._cache_lookup.store(page)
            results = replace(page, body=b"") if outcome.is_past_end else revived or page
            if outcome.is_declared:
                results = replace(results, is_accepted=True)
            try:
                await store_results(task, results, page)
            except BrokenBody as error:
                await self._finish_broken(exchange, error)
        else:
            await carry_out(task, outcome, refused)

    def _report_long_wait(self, outcome: Outcome) -> None:
        """Report a wait of more than a year: it is kept, but the server hardly means it."""
        waits = [reset_s for _, remaining, reset_s in self._task.attribution.reported if not remaining]
        longest_s = max(outcome.wait_s or 0.0, *waits, 0.0)
        if longest_s > YEAR_S:
            self._context.events.append(
                f"check  {self._task.payload['resource']}: the server states a wait of {longest_s / YEAR_S:.0f} years "
                f"({outcome.message or 'in a success'}), probably by mistake; `scrapeq limits clear` opens the limit, "
                "`max_wait` in response_actions bounds such waits"
            )

    def _note_host(self, page: Page | None, failure: FetchError | None, outcome: Outcome) -> None:
        """Report the first failure of a host at once; its tasks may be retried for long."""
        context = self._context
        host = host_of(page.url if page is not None else self._task.request[1])
        what_next = "trying again" if outcome.action == "retry" else "not tried again"
        event = context.hosts.note(host, page, failure, what_next)
        if event:
            context.events.append(context.egress.redact(event))

    async def _finish_broken(self, exchange: Exchange, error: BrokenBody) -> None:
        """Carry out what a response means whose body cannot be used: it may be whole next time."""
        await self._cache_lookup.forget()
        exchange.error = BadResponse(self._context.egress.redact(str(error)))
        outcome, self._task.attribution = self.judgement = self._context.judge.judge(exchange)
        await carry_out(self._task, outcome, [name for name, _ in self._task.attribution.refused])

    def _exchange(
        self, payload: Payload, page: Page | None, revived: Page | None, failure: FetchError | None
    ) -> Exchange:
        context, task = self._context, self._task
        method, url = task.request
        # after redirects the response is that of the last hop, and speaks of its limits
        at_hop = page is not None and task.hop_group is not None
        group = task.group(page.method, page.url) if page and at_hop else task.group(method, url)
        now_s = context.clock.now_s()
        return Exchange(
            group,
            task.sent_s,
            task.received_s,
            now_s,
            resource=payload["resource"],
            method=method,
            url=url,
            page=page,
            error=failure,
            cached=revived,
            names=self._names(payload, page.url if page is not None and at_hop else url, now_s),
            actions=actions_for(context.plan, payload["resource"]),
            credential=self._leased.lease.credential,
            has_costs=True,
            polls=polls_of(payload)[0],
            can_refresh=context.plan.client.auth.is_refreshable,
            is_guess=bool((payload.get("walk") or {}).get("guess")),
            is_stated_end=bool((payload.get("walk") or {}).get("ended")),
            retry_because=CHANGED_VALIDATOR if self._cache_lookup.must_resend else "",
            refusal_key=group.name + self._leased.lease.credential,
        )

    def _names(self, payload: Payload, url: str, now_s: float) -> dict[str, Any]:
        """Return the names that expressions over the response may use beside it."""
        task = self._leased.task
        return {
            "seed": payload.get("seed"),
            "parent": payload.get("parent"),
            "resources": payload.get("parents") or {},
            "resource": payload["resource"],
            "depth": payload.get("depth", 0),
            "page": payload.get("page", 1),
            "host": host_of(url),
            "token": self._leased.lease.credential or self._context.token,
            "task": {"id": task.id, "attempts": task.attempts},
            "now": now_s,
        }

    async def _end_unreadable(self, resource: str) -> None:
        """End a task whose response nothing could read, before it costs a request: the file lacks its resource."""
        context, task = self._context, self._task
        task.sent = UNSENT
        if (
            resource not in context.removed
        ):  # perhaps another machine has a newer file, or it was pushed by a script
            await task.bury(f"the file does not have a resource {resource!r}; add it, then redrive")
            return
        await task.settle(ACK)
        context.tally.dropped += 1
        context.events.append(
            f"check  queued tasks of {resource} are dropped: the file no longer has this resource"
        )

    async def _fail_for_unknown_credential(self) -> None:
        """Another machine of the run has other tokens: one of ours would be charged to the wrong limit."""
        name = self._leased.lease.credential
        self._task.sent = UNSENT
        await fail_run(
            self._task,
            f"client.auth: this machine does not have token {name}; all machines of a run need the same tokens",
        )


def _sent(error: FetchError) -> Delivery:
    """Return what became of a request that failed; a redirect is a response too."""
    if isinstance(error, Blocked):
        return RESPONDED if error.was_sent else UNSENT
    return RESPONDED if isinstance(error, TooManyRedirects) else NO_RESPONSE


def _user_named_hosts(payload: Payload) -> list[str]:
    """Return the URL of a task that a user seeded manually: its host may be private."""
    seeded = (payload.get("seed") or {}).get("url")
    is_seeded = seeded == payload["url"] and not payload.get("depth") and payload.get("parent") is None
    return [str(seeded)] if is_seeded else []
