"""One task on its way: sent, judged, written, settled. Each end of it is one call of one script."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from scrapeq.errors import AuthFailed, Blocked, FetchError, ScrapeqError, TooManyRedirects
from scrapeq.fetch import AuthLimitClosed, HopClosed
from scrapeq.fetch.cache_lookup import CacheLookup
from scrapeq.limits.attribution import attribute, costs_of, rules_of
from scrapeq.page import Page
from scrapeq.queue.commands import NO_RESPONSE, RESPONDED, UNSENT, Delivery
from scrapeq.resource import check_payload
from scrapeq.resource.restart import is_restart
from scrapeq.responses.match import host_of
from scrapeq.responses.observation import NO_OBSERVATION
from scrapeq.responses.outcome import Outcome, actions_for, decide
from scrapeq.responses.rule_observations import observe_for_rules
from scrapeq.task import Group
from scrapeq.worker.auth_grants import TaskAuthGrants
from scrapeq.worker.context import WorkerContext
from scrapeq.worker.outcomes import Outcomes, polls_of
from scrapeq.worker.page_results import PageResults
from scrapeq.worker.redirect_hops import HOPS, RedirectHops
from scrapeq.worker.settlement import Settlement
from scrapeq.worker.slots import LeasedTask, user_named_hosts


class TaskRun:
    """
    Args:
        means: What the worker has.
        held: The task and its lease.
    """

    def __init__(self, context: WorkerContext, leased: LeasedTask) -> None:
        self._context = context
        self._leased = leased
        self._settlement = Settlement(context, leased)
        self._hops = RedirectHops(context, leased, self._settlement)
        self._cache_lookup = CacheLookup(
            context.cache, context.plan.client, context.clock, leased.lease.credential
        )
        self._asking = TaskAuthGrants(context, leased, self._settlement)
        self._verdict = Outcomes(context, leased, self._settlement)

    async def run(self) -> None:
        """
        From the pop to the ack, or whatever else becomes of it.

        Raises LeaseLost, OutputError and StoreError; all else about the task ends in the queue.
        """
        context, task, settlement = self._context, self._leased.task, self._settlement
        try:
            settlement.payload = payload = check_payload(task.payload)
        except ScrapeqError as error:
            settlement.sent = UNSENT
            await settlement.bury(str(error))
            return
        if not context.egress.knows(self._leased.lease.credential):
            await self._unknown_member()
            return
        page = await self._kept(payload)
        if page is not None:
            settlement.sent = UNSENT
            context.tally.cached += 1
            await PageResults(context, self._leased, settlement).keep(page)
            return
        failure: FetchError | None = None
        context.tally.requests += 1
        settlement.sent_s = context.clock.monotonic_s()
        try:
            page = await self._send(payload)
        except HopClosed as hop:
            await self._hops.push(hop)
            return
        except AuthLimitClosed as closed:
            await self._asking.give_back(closed)
            return
        except FetchError as error:
            failure = error
            settlement.sent = _sent(error)
        settlement.answered_s = context.clock.monotonic_s()
        await self._judge(payload, page, failure)

    async def _kept(self, payload: dict[str, Any]) -> Page | None:
        """The answer, if it need not be asked for."""
        if self._context.cache is None or HOPS in payload:  # a hop's answer is that of another address
            return None
        return await self._cache_lookup.fresh(
            payload.get("method", "GET"),
            payload["url"],
            list((payload.get("headers") or {}).items()),
            has_body=payload.get("body") is not None,
            may_use=not is_restart(payload),  # a walk begins anew because what it was told is void
        )

    async def _send(self, payload: dict[str, Any]) -> Page:
        body = payload.get("body")
        return await self._context.egress.send(
            payload.get("method", "GET"),
            payload["url"],
            headers=[*(payload.get("headers") or {}).items(), *self._cache_lookup.conditions],
            body=body.encode() if isinstance(body, str) else None,
            hop=self._hops.may_go,
            named_hosts=user_named_hosts(payload),
            credential=self._leased.lease.credential,
            auth_grants=self._asking,
        )

    async def _judge(self, payload: dict[str, Any], page: Page | None, failure: FetchError | None) -> None:
        """What the answer means, and what it says to whom."""
        context, settlement = self._context, self._settlement
        resource, method, url = payload["resource"], payload.get("method", "GET"), payload["url"]
        # the answer is that of the last hop, and speaks of its limits
        at_hop = page is not None and settlement.hop_group is not None
        group = settlement.group(page.method, page.url) if page and at_hop else settlement.group(method, url)
        now_s = context.clock.now_s()
        names = self._names(payload, page.url if page is not None and at_hop else url, now_s)
        rules = rules_of(group, context.plan.rate_limits)
        revived = await self._cache_lookup.revived(page) if page is not None else None
        context.tally.not_modified += revived is not None
        observed, rule_observations = (
            observe_for_rules(page, now_s, rules, names) if page else (NO_OBSERVATION, None)
        )
        in_a_row = context.refusals.count_with(self._counted_as(group), settlement.sent_s)
        outcome = decide(
            actions_for(context.plan, resource),
            resource=resource,
            method=method,
            url=url,
            page=revived or page,
            not_modified=page if revived else None,
            guess=bool((payload.get("walk") or {}).get("guess")),
            error=failure,
            observation=observed,
            refusals_in_a_row=in_a_row,
            names=names,
            rule_observations=rule_observations,
            polls=polls_of(payload)[0],
            can_refresh=context.plan.client.auth.is_refreshable,
        )
        if self._cache_lookup.was_misled:
            outcome = replace(
                outcome, action="retry", message="304 for another entity tag than that of what is kept"
            )
        if outcome.message:  # servers echo what they got, and the file may have put it there
            outcome = replace(outcome, message=context.egress.hidden(outcome.message))
        costs = costs_of(
            group,
            outcome,
            context.plan.rate_limits,
            resource=resource,
            method=method,
            url=url,
            page=page,
            error=failure,
            names=names,
        )
        settlement.attribution = attribute(
            group,
            outcome,
            context.plan.rate_limits,
            clocks=context.clocks,
            sent_s=settlement.sent_s,
            answered_s=settlement.answered_s,
            credential=self._leased.lease.credential,
            credentials=context.egress.credentials,
            costs=costs,
        )
        if isinstance(failure, AuthFailed):
            self._asking.failed(failure)
        await self._conclude(group, page, revived, outcome, in_a_row)

    async def _conclude(
        self, group: Group, page: Page | None, revived: Page | None, outcome: Outcome, in_a_row: int
    ) -> None:
        context, settlement = self._context, self._settlement
        if outcome.action != "refresh_auth":
            context.auth_retries.over(self._leased.task.id)
        if outcome.action == "rate_limited":
            context.tally.refused += 1
            context.refusals.refused(self._counted_as(group), in_a_row, context.clock.monotonic_s())
        elif page is not None:
            context.refusals.succeeded(self._counted_as(group))
        settlement.close_hops()
        if outcome.action == "success" and page is not None:
            if revived is None and not outcome.is_past_end:
                await self._cache_lookup.keep(page)
            read = replace(page, body=b"") if outcome.is_past_end else revived or page
            await PageResults(context, self._leased, settlement).keep(read, page)
        else:
            await self._verdict.carry_out(outcome, [name for name, _ in settlement.attribution.refused])

    def _names(self, payload: dict[str, Any], url: str, now_s: float) -> dict[str, Any]:
        """What expressions over an answer may read beside it."""
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

    def _counted_as(self, group: Group) -> str:
        """Refusals in a row are those of one group, and of one token of a pool."""
        return group.name + self._leased.lease.credential

    async def _unknown_member(self) -> None:
        """Another machine of this run has other tokens: sent with one of ours it would be charged to the wrong one."""
        name = self._leased.lease.credential
        self._settlement.sent = UNSENT
        await self._verdict.fail(
            f"client.auth: this machine has no token {name}; all machines of a run need the same"
        )


def _sent(error: FetchError) -> Delivery:
    """What became of a request that ended in an error: redirects are answers, too."""
    if isinstance(error, Blocked):
        return RESPONDED if error.was_sent else UNSENT
    return RESPONDED if isinstance(error, TooManyRedirects) else NO_RESPONSE
