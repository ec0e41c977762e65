"""Push ten tasks with a priority and a delay. Needs Redis or Valkey on localhost:6379."""

import random
import sys

from redis import Redis

from scrapeq import DPQ, ScrapeqError

q = DPQ(redis=Redis(), queue_name="my_queue")

for i in range(10):
    priority = random.randrange(50)
    delay = 10

    payload = {
        "body": f"hello world {i=}",
        "priority": priority,
        "delay": delay,
    }

    try:
        q.push(payload, priority=priority, delay=delay)
    except ScrapeqError as error:
        sys.exit(f"error: {error}")
