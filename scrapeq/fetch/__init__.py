"""The one way out: every request passes the `Egress`."""

from scrapeq.fetch.asking import AskingClosed
from scrapeq.fetch.egress import Egress, HopClosed

__all__ = ["AskingClosed", "Egress", "HopClosed"]
