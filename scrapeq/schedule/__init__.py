"""The scheduler: of the processes that run one for a queue, a leader pushes due resources and sweeps the queue."""

from scrapeq.schedule.leader_lock import LeaderLock
from scrapeq.schedule.scheduler import Scheduler

__all__ = ["LeaderLock", "Scheduler"]
