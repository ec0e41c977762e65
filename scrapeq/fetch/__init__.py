"""The one way out: every request passes the `Egress`."""

from scrapeq.fetch.auth_requests import AuthLimitClosed
from scrapeq.fetch.egress import Egress, HopClosed

__all__ = ["AuthLimitClosed", "Egress", "HopClosed"]
