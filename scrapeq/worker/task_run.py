"""One task on its way: sent, judged, written, settled. Each end of it is one call of one script."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from scrapeq.errors import AuthFailed, Blocked, FetchError, ScrapeqError, TooManyRedirects
from scrapeq.fetch import AskingClosed, HopClosed
from scrapeq.fetch.cache_lookup import Recall
from scrapeq.limits.attribution import attributed, costs_of, rules_of
from scrapeq.page import Page
from scrapeq.queue.commands import ANSWERED, UNANSWERED, UNSENT
from scrapeq.resource import check_payload
from scrapeq.resource.restart import is_restart
from scrapeq.responses.match import host_of
from scrapeq.responses.observation import NOTHING
from scrapeq.responses.outcome import Outcome, actions_for, decide
from scrapeq.responses.rule_observations import listen
from scrapeq.task import Group
from scrapeq.worker.auth_grants import TaskAsking
from scrapeq.worker.context import Means
from scrapeq.worker.outcomes import Verdict, polls_of
from scrapeq.worker.page_results import Harvest
from scrapeq.worker.redirect_hops import HOPS, Hops
from scrapeq.worker.settlement import Settlement
from scrapeq.worker.slots import Held, named_by_hand


class Visit:
    """
    Args:
        means: What the worker has.
        held: The task and its lease.
    """

    def __init__(self, means: Means, held: Held) -> None:
        self._means = means
        self._held = held
        self._settlement = Settlement(means, held)
        self._hops = Hops(means, held, self._settlement)
        self._recall = Recall(means.cache, means.plan.client, means.clock, held.lease.member)
        self._asking = TaskAsking(means, held, self._settlement)
        self._verdict = Verdict(means, held, self._settlement)

    async def run(self) -> None:
        """
        From the pop to the ack, or whatever else becomes of it.

        Raises LeaseLost, OutputError and StoreError; all else about the task ends in the queue.
        """
        means, task, settlement = self._means, self._held.task, self._settlement
        try:
            settlement.payload = payload = check_payload(task.payload)
        except ScrapeqError as error:
            settlement.sent = UNSENT
            await settlement.bury(str(error))
            return
        if not means.egress.knows(self._held.lease.member):
            await self._unknown_member()
            return
        page = await self._kept(payload)
        if page is not None:
            settlement.sent = UNSENT
            means.tally.cached += 1
            await Harvest(means, self._held, settlement).keep(page)
            return
        failure: FetchError | None = None
        means.tally.requests += 1
        settlement.sent_s = means.clock.monotonic_s()
        try:
            page = await self._send(payload)
        except HopClosed as hop:
            await self._hops.push(hop)
            return
        except AskingClosed as closed:
            await self._asking.give_back(closed)
            return
        except FetchError as error:
            failure = error
            settlement.sent = _sent(error)
        settlement.answered_s = means.clock.monotonic_s()
        await self._judge(payload, page, failure)

    async def _kept(self, payload: dict[str, Any]) -> Page | None:
        """The answer, if it need not be asked for."""
        if self._means.cache is None or HOPS in payload:  # a hop's answer is that of another address
            return None
        return await self._recall.fresh(
            payload.get("method", "GET"),
            payload["url"],
            list((payload.get("headers") or {}).items()),
            has_body=payload.get("body") is not None,
            may_use=not is_restart(payload),  # a walk begins anew because what it was told is void
        )

    async def _send(self, payload: dict[str, Any]) -> Page:
        body = payload.get("body")
        return await self._means.egress.send(
            payload.get("method", "GET"),
            payload["url"],
            headers=[*(payload.get("headers") or {}).items(), *self._recall.conditions],
            body=body.encode() if isinstance(body, str) else None,
            hop=self._hops.may_go,
            named_hosts=named_by_hand(payload),
            member=self._held.lease.member,
            asking=self._asking,
        )

    async def _judge(self, payload: dict[str, Any], page: Page | None, failure: FetchError | None) -> None:
        """What the answer means, and what it says to whom."""
        means, settlement = self._means, self._settlement
        resource, method, url = payload["resource"], payload.get("method", "GET"), payload["url"]
        # the answer is that of the last hop, and speaks of its limits
        at_hop = page is not None and settlement.hop_group is not None
        group = settlement.group(page.method, page.url) if page and at_hop else settlement.group(method, url)
        now_s = means.clock.now_s()
        names = self._names(payload, page.url if page is not None and at_hop else url, now_s)
        rules = rules_of(group, means.plan.rate_limits)
        revived = await self._recall.revived(page) if page is not None else None
        means.tally.not_modified += revived is not None
        observed, heard = listen(page, now_s, rules, names) if page else (NOTHING, None)
        streak = means.streaks.with_this(self._counted_as(group), settlement.sent_s)
        outcome = decide(
            actions_for(means.plan, resource),
            resource=resource,
            method=method,
            url=url,
            page=revived or page,
            not_modified=page if revived else None,
            guess=bool((payload.get("walk") or {}).get("guess")),
            error=failure,
            observation=observed,
            refusals_in_a_row=streak,
            names=names,
            heard=heard,
            polls=polls_of(payload)[0],
            renews=means.plan.client.auth.is_renewed,
        )
        if self._recall.was_misled:
            outcome = replace(
                outcome, action="retry", message="304 for another entity tag than that of what is kept"
            )
        if outcome.message:  # servers echo what they got, and the file may have put it there
            outcome = replace(outcome, message=means.egress.hidden(outcome.message))
        costs = costs_of(
            group,
            outcome,
            means.plan.rate_limits,
            resource=resource,
            method=method,
            url=url,
            page=page,
            error=failure,
            names=names,
        )
        settlement.said = attributed(
            group,
            outcome,
            means.plan.rate_limits,
            clocks=means.clocks,
            sent_s=settlement.sent_s,
            answered_s=settlement.answered_s,
            member=self._held.lease.member,
            members=means.egress.members,
            costs=costs,
        )
        if isinstance(failure, AuthFailed):
            self._asking.failed(failure)
        await self._conclude(group, page, revived, outcome, streak)

    async def _conclude(
        self, group: Group, page: Page | None, revived: Page | None, outcome: Outcome, streak: int
    ) -> None:
        means, settlement = self._means, self._settlement
        if outcome.action != "refresh_auth":
            means.renewals.over(self._held.task.id)
        if outcome.action == "rate_limited":
            means.tally.refused += 1
            means.streaks.refused(self._counted_as(group), streak, means.clock.monotonic_s())
        elif page is not None:
            means.streaks.answered(self._counted_as(group))
        settlement.close_hops()
        if outcome.action == "success" and page is not None:
            if revived is None and not outcome.is_past_end:
                await self._recall.keep(page)
            read = replace(page, body=b"") if outcome.is_past_end else revived or page
            await Harvest(means, self._held, settlement).keep(read, page)
        else:
            await self._verdict.carry_out(outcome, [name for name, _ in settlement.said.refused])

    def _names(self, payload: dict[str, Any], url: str, now_s: float) -> dict[str, Any]:
        """What expressions over an answer may read beside it."""
        task = self._held.task
        return {
            "seed": payload.get("seed"),
            "parent": payload.get("parent"),
            "resources": payload.get("parents") or {},
            "resource": payload["resource"],
            "depth": payload.get("depth", 0),
            "page": payload.get("page", 1),
            "host": host_of(url),
            "token": self._held.lease.member or self._means.token,
            "task": {"id": task.id, "attempts": task.attempts},
            "now": now_s,
        }

    def _counted_as(self, group: Group) -> str:
        """Refusals in a row are those of one group, and of one token of a pool."""
        return group.name + self._held.lease.member

    async def _unknown_member(self) -> None:
        """Another machine of this run has other tokens: sent with one of ours it would be charged to the wrong one."""
        name = self._held.lease.member
        self._settlement.sent = UNSENT
        await self._verdict.fail(
            f"client.auth: this machine has no token {name}; all machines of a run need the same"
        )


def _sent(error: FetchError) -> int:
    """What became of a request that ended in an error: redirects are answers, too."""
    if isinstance(error, Blocked):
        return ANSWERED if error.was_sent else UNSENT
    return ANSWERED if isinstance(error, TooManyRedirects) else UNANSWERED
