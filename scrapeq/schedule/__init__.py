"""The scheduler of a queue: a leader pushes due resources and sweeps the queue, other schedulers stand by."""

from scrapeq.schedule.leader_lock import LeaderLock
from scrapeq.schedule.scheduler import Scheduler

__all__ = ["LeaderLock", "Scheduler"]
