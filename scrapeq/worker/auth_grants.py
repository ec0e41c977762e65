"""
Grants for the requests of a task's credential: a token request, a login, further requests of an `httpx.Auth`.

They pass the limits like every request. Where such a request shares the task's limit, and that limit grants nothing
beside the task (a concurrency of one, say), the task's own grant pays for it and the task takes another one.
"""

from __future__ import annotations

import contextlib

from scrapeq.errors import AuthFailed, StoreError
from scrapeq.fetch import AuthLimitClosed, Postponed
from scrapeq.limits.attribution import NO_ATTRIBUTION, Attribution, closed_by
from scrapeq.limits.judge import Exchange
from scrapeq.limits.partition import group_of
from scrapeq.page import Page
from scrapeq.queue import Entry
from scrapeq.queue.commands import ACK, NO_RESPONSE, OBSERVE, RELEASE, RESPONDED, UNSENT
from scrapeq.task import Group, Lease
from scrapeq.worker.settlement import Settlement

REPORT_FROM_S = 0.5  # shorter waits are not worth a message
RETRY_S = 0.25  # before the next attempt at a limit that only a response to another request can open


class TaskAuthGrants:
    """
    The `AuthGrants` of one task run.

    Args:
        task: The task run.
    """

    def __init__(self, task: Settlement) -> None:
        self._task = task
        self._context = task.context
        self._leased = task.leased
        self._granted = True  # the request itself: by the task's grant, or that of the last hop
        self._lease: Lease | None = (
            None  # of the credential's request; None = it uses the request's own grant
        )
        self._group = Group()
        self._sent_s = 0.0

    async def acquire(self, method: str, url: str, *, own: bool) -> None:
        """See `AuthGrants.acquire`; never waits. Raises AuthLimitClosed."""
        if own and self._granted:
            return
        context, task = self._context, self._task
        self._group = task.group(method, url) if own else self._credential_group(method, url)
        self._sent_s = context.clock.monotonic_s()
        credential = self._leased.lease.credential
        granted = await context.queue.try_acquire(self._group, credential=credential)
        if isinstance(granted, Lease):
            if own:
                task.hops.append(granted)
                self._granted = True
            else:
                self._lease = granted
        elif not own and self._granted and _covers(self._own_group(), self._group):
            self._lease = None
        else:
            raise AuthLimitClosed(method, url, granted, own=own)
        context.tally.requests += not own

    def release_while_waiting(self) -> None:
        """Keep the task's grant: `acquire` never waits for another one."""

    async def settle(self, page: Page | None, *, own: bool) -> bool:
        """See `AuthGrants.settle`. A lost lease or store is ignored here: the next step fails with it."""
        task = self._task
        if own:
            self._context.tally.requests += 1  # the request is sent once more
            self._group, self._lease = self._own_group(), None
            self._sent_s = task.sent_s
        attribution, is_refusal = self._judge(page)
        sent = NO_RESPONSE if page is None else RESPONDED
        if self._lease is not None:
            entry = Entry(ACK, self._lease, sent)
        elif task.hops:
            entry = Entry(ACK, task.hops.pop(), sent)
        else:
            entry = Entry(OBSERVE, self._leased.lease, sent)
        self._granted = self._lease is not None and self._granted
        with contextlib.suppress(StoreError):
            await self._context.queue.settle(entry._replace(**attribution._asdict()))
        return is_refusal

    def _credential_group(self, method: str, url: str) -> Group:
        """
        Return the limits of a request for the credential, by the rules that apply to all resources.

        The credential's own limit is not among them: it is closed while there is no credential.
        """
        plan = self._context.plan
        return group_of(plan.rate_limits, method=method, url=url, token=plan.client.auth.identity)

    def _own_group(self) -> Group:
        return self._task.hop_group or self._task.group(*self._task.request)

    def _judge(self, page: Page | None) -> tuple[Attribution, bool]:
        """Judge a response by the built-in rules, since response actions are for resources."""
        if page is None:
            return NO_ATTRIBUTION, False
        context = self._context
        outcome, attribution = context.judge.judge(
            Exchange(
                self._group,
                self._sent_s,
                context.clock.monotonic_s(),
                context.clock.now_s(),
                method=page.method,
                url=page.url,
                page=page,
                credential=self._leased.lease.credential,
                refusal_key=self._group.name + "\0",  # counted apart from the task's own requests
            )
        )
        is_refusal = outcome.action == "rate_limited"
        context.tally.refused += is_refusal
        return attribution, is_refusal

    # --- without a credential

    async def give_back(self, closed: AuthLimitClosed) -> None:
        """Release the task without a charge, and close the limit of every task that needs the credential."""
        task = self._task
        self._mark_unsent()
        delay_s = 0.0
        if not closed.own:
            wait_s = RETRY_S if closed.wait_s is None else closed.wait_s
            names = self._close(wait_s)
            delay_s = 0.0 if names else wait_s
            what = "all tasks that need the credential" if names else task.title
            event = f"parked {what} for {wait_s:.0f} s: {closed}"
            if (
                wait_s >= REPORT_FROM_S and event not in self._context.events
            ):  # once for all tasks that waited
                self._context.events.append(event)
        attribution, task.attribution = task.attribution, NO_ATTRIBUTION
        task.settle_hops()
        task.attribution = attribution
        await task.settle(RELEASE, delay_s=delay_s, error=str(closed))

    async def postpone(self, pending: Postponed) -> None:
        """Release the task without a charge: it cannot be sent now. Other tasks take its slot."""
        task = self._task
        self._mark_unsent()
        event = f"check  {task.payload['resource']}: {pending}; tasks wait, and no attempt is charged"
        if event not in self._context.events:
            self._context.events.append(event)
        await task.settle(RELEASE, delay_s=pending.delay_s, error=str(pending))

    def close_for(self, error: AuthFailed) -> None:
        """Close the credential's limit while a login would only fail again."""
        self._mark_unsent()
        if error.pause_s:
            self._close(error.pause_s)

    def _mark_unsent(self) -> None:
        """The request itself was not sent: its grant is refunded, unless a login used it."""
        self._task.sent = UNSENT if self._granted else RESPONDED
        self._context.tally.requests -= 1

    def _close(self, wait_s: float) -> list[str]:
        """Close the credential's own limit, if the plan has one; return the limit instances."""
        task = self._task
        group, credential = self._own_group(), self._leased.lease.credential
        names = closed_by(group, "token", credential, self._context.egress.credentials)
        names = [name for name in names if name.startswith("=token")]
        closed = ((name, wait_s) for name in names)
        task.attribution = task.attribution._replace(refused=[*task.attribution.refused, *closed])
        return names


def _covers(own: Group, other: Group) -> bool:
    """Return whether a grant of one group is also a grant of the other."""
    ours = {*own.limits, own.private} - {""}
    theirs = {*other.limits, other.private} - {""}
    return theirs <= ours and all(other.weight(name) <= own.weight(name) for name in other.limits)
