"""
Grants for what a task's credential needs: a token request, a login, another request of an `httpx.Auth`.

They pass the limits like all else. Where the limit is the task's own, and it grants no more beside the task (one that
lets one request go at a time, say), the task's grant pays for the login, and the task takes another one.
"""

from __future__ import annotations

import contextlib

from scrapeq.errors import AuthFailed, StoreError
from scrapeq.fetch import AuthLimitClosed
from scrapeq.limits.attribution import NO_ATTRIBUTION, Attribution, attribute, closed_by, rules_of
from scrapeq.limits.partition import group_of
from scrapeq.page import Page
from scrapeq.queue import Entry
from scrapeq.queue.commands import ACK, NO_RESPONSE, OBSERVE, RELEASE, RESPONDED, UNSENT
from scrapeq.responses.outcome import decide
from scrapeq.responses.rule_observations import observe_for_rules
from scrapeq.task import Group, Lease
from scrapeq.worker.context import WorkerContext
from scrapeq.worker.settlement import Settlement
from scrapeq.worker.slots import LeasedTask

SAID_FROM_S = 0.5  # a wait that is shorter is no news
LOOK_S = 0.25  # before a limit is tried again that opens when somebody else is answered


class TaskAuthGrants:
    """The `AuthGrants` of one visit."""

    def __init__(self, context: WorkerContext, leased: LeasedTask, settlement: Settlement) -> None:
        self._context = context
        self._leased = leased
        self._settlement = settlement
        self._granted = True  # the request itself: by the task's grant, or the last hop's
        self._lease: Lease | None = None  # of what is asked; None: the request's own grant
        self._group = Group()
        self._began_s = 0.0

    async def begin(self, method: str, url: str, *, own: bool) -> None:
        """See `AuthGrants.begin`; never waits. Raises AskingClosed."""
        if own and self._granted:
            return
        context, settlement = self._context, self._settlement
        self._group = settlement.group(method, url) if own else self._group_of_asked(method, url)
        self._began_s = context.clock.monotonic_s()
        got = await context.queue.try_acquire(self._group, credential=self._leased.lease.credential)
        if isinstance(got, Lease):
            if own:
                settlement.hops.append(got)
                self._granted = True
            else:
                self._lease = got
        elif not own and self._granted and _covers(self._own_group(), self._group):
            self._lease = None
        else:
            raise AuthLimitClosed(method, url, got, own=own)
        context.tally.requests += not own

    def rest(self) -> None:
        """Who asks never waits for a grant, so the task may keep its own."""

    async def end(self, page: Page | None, *, own: bool) -> bool:
        """See `AuthGrants.end`. What was answered is not lost with the lease or the store: they show at the next step."""
        if own:
            self._context.tally.requests += 1  # for it is sent again
            self._group, self._lease = self._own_group(), None
            self._began_s = self._settlement.sent_s
        attribution, is_refusal = self._attribution(page)
        sent = NO_RESPONSE if page is None else RESPONDED
        settlement = self._settlement
        if self._lease is not None:
            entry = Entry(ACK, self._lease, sent)
        elif settlement.hops:
            entry = Entry(ACK, settlement.hops.pop(), sent)
        else:
            entry = Entry(OBSERVE, self._leased.lease, sent)
        self._granted = self._lease is not None and self._granted
        with contextlib.suppress(StoreError):
            await self._context.queue.settle(entry._replace(**attribution._asdict()))
        return is_refusal

    def _group_of_asked(self, method: str, url: str) -> Group:
        """By the rules that are for all resources; never the credential's own limit, which is closed for want of it."""
        plan = self._context.plan
        return group_of(plan.rate_limits, method=method, url=url, token=plan.client.auth.identity)

    def _own_group(self) -> Group:
        settlement, payload = self._settlement, self._settlement.payload
        return settlement.hop_group or settlement.group(payload.get("method", "GET"), payload["url"])

    def _attribution(self, page: Page | None) -> tuple[Attribution, bool]:
        """What an answer says to the limits, by the built-in rules: the file's are for resources."""
        context = self._context
        if page is None:
            return NO_ATTRIBUTION, False
        rules = rules_of(self._group, context.plan.rate_limits)
        observed, rule_observations = observe_for_rules(page, context.clock.now_s(), rules)
        counted = self._group.name + "\0"
        in_a_row = context.refusals.count_with(counted, self._began_s)
        outcome = decide(
            (),
            method=page.method,
            url=page.url,
            page=page,
            observation=observed,
            refusals_in_a_row=in_a_row,
            rule_observations=rule_observations,
        )
        is_refusal = outcome.action == "rate_limited"
        now_s = context.clock.monotonic_s()
        if is_refusal:
            context.tally.refused += 1
            context.refusals.refused(counted, in_a_row, now_s)
        else:
            context.refusals.succeeded(counted)
        attribution = attribute(
            self._group,
            outcome,
            context.plan.rate_limits,
            clocks=context.clocks,
            sent_s=self._began_s,
            answered_s=now_s,
            credential=self._leased.lease.credential,
            credentials=context.egress.credentials,
        )
        return attribution, is_refusal

    # --- when there is no credential

    async def give_back(self, closed: AuthLimitClosed) -> None:
        """The task goes back uncharged; what is closed for its credential is closed for all that need it."""
        settlement = self._settlement
        self._unsent()
        delay_s = 0.0
        if not closed.own:
            wait_s = LOOK_S if closed.wait_s is None else closed.wait_s
            names = self._close(wait_s)
            delay_s = 0.0 if names else wait_s
            line = f"parked {'what needs the credential' if names else settlement.who} for {wait_s:.0f} s: {closed}"
            if wait_s >= SAID_FROM_S and line not in self._context.events:  # once for all who waited
                self._context.events.append(line)
        attribution, settlement.attribution = settlement.attribution, NO_ATTRIBUTION
        settlement.close_hops()
        settlement.attribution = attribution
        await settlement.settle(RELEASE, delay_s=delay_s, error=str(closed))

    def failed(self, error: AuthFailed) -> None:
        """No task is sent for nothing while a login would only fail again."""
        self._unsent()
        if error.pause_s:
            self._close(error.pause_s)

    def _unsent(self) -> None:
        """The request itself did not go out; its grant is given back, unless a login was paid with it."""
        self._settlement.sent = UNSENT if self._granted else RESPONDED
        self._context.tally.requests -= 1

    def _close(self, wait_s: float) -> list[str]:
        """Close the credential's own limit, where the plan knows of it."""
        group, lease = self._own_group(), self._leased.lease
        names = closed_by(group, "token", lease.credential, self._context.egress.credentials)
        names = [name for name in names if name.startswith("=token")]
        attribution = self._settlement.attribution
        self._settlement.attribution = attribution._replace(
            refused=[*attribution.refused, *((name, wait_s) for name in names)]
        )
        return names


def _covers(own: Group, other: Group) -> bool:
    """Whether a grant of one group is a grant of another, too."""
    ours = {*own.limits, own.private} - {""}
    theirs = {*other.limits, other.private} - {""}
    return theirs <= ours and all(other.weight(name) <= own.weight(name) for name in other.limits)
