"""The egress: the only way out. Every request passes through `Egress`."""

from scrapeq.fetch.auth_requests import AuthGrants, AuthLimitClosed
from scrapeq.fetch.egress import Egress, HopClosed
from scrapeq.fetch.names import Postponed

__all__ = ["AuthGrants", "AuthLimitClosed", "Egress", "HopClosed", "Postponed"]
