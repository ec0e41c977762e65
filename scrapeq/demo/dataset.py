"""The records of the sample API, generated from a seed: the same on every machine and every day."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

Record = dict[str, Any]

NEWEST = datetime(2025, 6, 1, 12, 0, tzinfo=UTC)
"""The newest possible time of a record."""

SPAN_S = 180 * 24 * 3600
"""All records lie in the half year before NEWEST."""

SHARE_WITHOUT_COMMENTS = 0.15
SHARE_LONG_DISCUSSIONS = 0.02
LONG_DISCUSSION = (60, 130)
"""Fewest and most comments of a long discussion: more than fit on a page of 50."""

USUAL_COMMENTS = (1, 6)
LABELS = ("bug", "docs", "feature", "help wanted", "performance", "question")
PEOPLE = ("ada", "barbara", "edsger", "grace", "ken", "margaret", "radia", "tim")
VERBS = ("Crash", "Slow", "Wrong result", "Missing hint", "Time-out", "Typo", "Regression", "Leak")
LOCATIONS = (
    "in the parser",
    "on start",
    "with empty input",
    "behind a proxy",
    "after an upgrade",
    "on export",
)
PHRASES = (
    "the queue keeps its order",
    "nothing is lost when it stops",
    "a worker waits for a response",
    "every page is written first",
    "a second run changes nothing",
    "the newest comes first",
)


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository and the number of its issues."""

    owner: str
    name: str
    issues: int


REPOSITORIES = (Repository("octo", "tools", 480), Repository("octo", "site", 320))
"""At 40 requests per 2 s this is about 18 windows of work, half a minute."""


def _timestamp(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def _prose(rng: random.Random, phrases: int) -> str:
    return (", ".join(rng.choice(PHRASES) for _ in range(phrases)) + ".").capitalize()


class Dataset:
    """
    All records of one seed.

    Args:
        seed: The same seed gives the same records.
        scale: A factor for the number of issues (at least one per repository).
    """

    def __init__(self, seed: int = 1, scale: float = 1.0) -> None:
        self._seed = seed
        self._issues: dict[tuple[str, str], list[Record]] = {}
        self._comments: dict[tuple[str, str, int], list[Record]] = {}
        for index, repository in enumerate(REPOSITORIES):
            count = max(1, round(repository.issues * scale))
            key = (repository.owner, repository.name)
            self._issues[key] = self._make_issues(index, repository, count)

    def issues(self, owner: str, repo: str) -> list[Record] | None:
        """Return a repository's issues, ordered by number; None if the repository does not exist."""
        return self._issues.get((owner, repo))

    def comments(self, owner: str, repo: str, number: int) -> list[Record] | None:
        """Return an issue's comments, oldest first; None if the issue does not exist."""
        issues = self._issues.get((owner, repo))
        if issues is None or not 1 <= number <= len(issues):
            return None
        key = (owner, repo, number)
        if key not in self._comments:
            self._comments[key] = self._make_comments(owner, repo, issues[number - 1])
        return self._comments[key]

    def _make_issues(self, index: int, repository: Repository, count: int) -> list[Record]:
        rng = random.Random(f"{self._seed}:{repository.owner}/{repository.name}")
        # No two timestamps are equal, in both repositories together, so "newest first" is one order.
        ages_s = [2 * half + index for half in rng.sample(range(SPAN_S // 2), 2 * count)]
        lives = sorted(zip(ages_s[::2], ages_s[1::2], strict=True), key=max, reverse=True)
        return [
            self._make_issue(rng, index, number, created_s=max(life), updated_s=min(life))
            for number, life in enumerate(lives, start=1)
        ]

    def _make_issue(
        self, rng: random.Random, index: int, number: int, *, created_s: int, updated_s: int
    ) -> Record:
        if rng.random() < SHARE_WITHOUT_COMMENTS:
            comments = 0
        else:
            low, high = LONG_DISCUSSION if rng.random() < SHARE_LONG_DISCUSSIONS else USUAL_COMMENTS
            comments = rng.randint(low, high)
        return {
            "id": (index + 1) * 1_000_000 + number,
            "number": number,
            "title": f"{rng.choice(VERBS)} {rng.choice(LOCATIONS)}",
            "state": "open" if rng.random() < 0.4 else "closed",
            "user": {"login": rng.choice(PEOPLE)},
            "labels": [{"name": name} for name in rng.sample(LABELS, rng.randint(0, 3))],
            "comments": comments,
            "created_at": _timestamp(NEWEST - timedelta(seconds=created_s)),
            "updated_at": _timestamp(NEWEST - timedelta(seconds=updated_s)),
            "body": _prose(rng, rng.randint(2, 8)),
        }

    def _make_comments(self, owner: str, repo: str, issue: Record) -> list[Record]:
        rng = random.Random(f"{self._seed}:{owner}/{repo}#{issue['number']}")
        created = datetime.strptime(issue["created_at"], "%Y-%m-%dT%H:%M:%S%z")
        updated = datetime.strptime(issue["updated_at"], "%Y-%m-%dT%H:%M:%S%z")
        count = issue["comments"]
        step = (updated - created) / max(1, count)
        return [
            {
                "id": issue["id"] * 1000 + position,
                "user": {"login": rng.choice(PEOPLE)},
                "created_at": _timestamp(created + step * position),
                "updated_at": _timestamp(created + step * position),
                "body": _prose(rng, rng.randint(1, 5)),
            }
            for position in range(1, count + 1)
        ]
