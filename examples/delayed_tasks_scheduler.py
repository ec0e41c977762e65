"""
Make delayed tasks ready in a queue without workers: `python examples/delayed_tasks_scheduler.py [QUEUE]`.

A queue does not need it to be correct, since each pop makes due tasks ready; it keeps the counts true until then. The
command `scrapeq scheduler --queue QUEUE` does the same with leader election, so several may run.
"""

import sys
import time

from redis import Redis

from scrapeq import DPQ, ScrapeqError

LONGEST_PAUSE_S = 1.0

q = DPQ(redis=Redis(), queue_name=sys.argv[1] if len(sys.argv) > 1 else "my_queue")

while True:
    try:
        next_event_s = q.sweep()
    except ScrapeqError as error:
        sys.exit(f"error: {error}")
    time.sleep(LONGEST_PAUSE_S if next_event_s is None else min(next_event_s, LONGEST_PAUSE_S))
