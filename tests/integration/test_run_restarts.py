"""When a run starts its parts again: at once after a kill, ever later while something crashes in a loop."""

from __future__ import annotations

from scrapeq.inspect.limit_views import title_of
from scrapeq.processes.child import RestartPause


def test_pauses_double_to_a_cap_while_it_crashes() -> None:
    """What never lives long waits longer each time."""
    pause = RestartPause(0.25, 30.0)
    pauses = []
    for _ in range(10):
        pause.lived(0.2)
        pauses.append(pause.next_s())
    assert pauses == [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]


def test_a_kill_now_and_then_costs_the_shortest_pause() -> None:
    """Work done, ten pauses lived, or half a minute: it was no crash loop."""
    pause = RestartPause(0.25, 30.0)
    for worked, life_s in ((True, 0.1), (False, 10.1), (False, 31.0)):
        pause.next_s()
        assert pause.next_s() == 0.5
        pause.lived(life_s, worked=worked)
        assert pause.next_s() == 0.25
        pause.lived(31.0)
    for _ in range(9):
        pause.next_s()
    pause.lived(29.0)
    assert pause.next_s() == 30.0


def test_a_limit_in_a_sentence() -> None:
    """The name, and what its partition is, without the empty parts."""
    assert title_of("core") == "core"
    assert title_of("core|api.example:443,") == "core (api.example:443)"
    assert title_of("core|api.example,a91f") == "core (api.example, a91f)"
