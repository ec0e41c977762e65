"""
Forecast how long work will take under its rate limits, without sending requests: a discrete-event simulation.

    from scrapeq import Group, Limit, Rate
    from scrapeq.simulate import Work, simulate

    work = [Work(Group("api", ("core",)), count=12_000, label="issues")]
    print(simulate(work, {"core": Limit((Rate(5000, 3600),))}).done_s)
"""

from scrapeq.simulate.forecast import BandForecast, Forecast, LimitForecast, WorkForecast
from scrapeq.simulate.simulation import simulate
from scrapeq.simulate.work import Work

__all__ = ["BandForecast", "Forecast", "LimitForecast", "Work", "WorkForecast", "simulate"]
