"""The scheduler: one elected per queue, any number standing by; does what pops cannot."""

from scrapeq.schedule.leader_lock import LeaderLock
from scrapeq.schedule.scheduler import Scheduler

__all__ = ["LeaderLock", "Scheduler"]
