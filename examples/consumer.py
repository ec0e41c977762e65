"""Process the tasks of producer.py; give back those that the API refuses. Needs Redis or Valkey on localhost:6379."""

import random
import sys
import time

from redis import Redis

from scrapeq import DPQ, ScrapeqError


class RateLimitError(Exception):
    """The API refused the request for now."""


def process(task):
    """Stand in for a request to an API that refuses one in three."""
    if random.randrange(3) == 0:
        raise RateLimitError


def main():
    """Process tasks until the program is stopped."""
    q = DPQ(redis=Redis(), queue_name="my_queue")

    while True:
        task, on_success, set_visibility = q.pop()

        if task is None:
            print("queue is empty")
            time.sleep(1)
            continue

        print(f"got task {task=}")

        try:
            process(task)
            on_success()
        except RateLimitError:
            delay = random.randrange(50)
            print(f"setting delay for {delay} for {task=}")
            set_visibility(delay)


try:
    main()
except ScrapeqError as error:
    sys.exit(f"error: {error}")
