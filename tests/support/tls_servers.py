"""Server certificates for tests: a valid one, and one for each way in which a certificate can be wrong."""

from __future__ import annotations

import datetime
import ssl

import trustme

PAST = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)


class Certificates:
    """Two certificate authorities: `trusted` for the client to trust, and one that it does not know."""

    def __init__(self) -> None:
        self.trusted = trustme.CA()
        self._unknown = trustme.CA()

    def valid(self) -> ssl.SSLContext:
        """Return the settings of a server with a valid certificate for 127.0.0.1."""
        return _served(self.trusted.issue_cert("127.0.0.1"))

    def expired(self) -> ssl.SSLContext:
        """Return the settings of a server whose certificate has expired."""
        return _served(
            self.trusted.issue_cert(
                "127.0.0.1", not_before=PAST, not_after=PAST + datetime.timedelta(days=90)
            )
        )

    def of_another_host(self) -> ssl.SSLContext:
        """Return the settings of a server whose certificate names another host."""
        return _served(self.trusted.issue_cert("other.example"))

    def of_unknown_authority(self) -> ssl.SSLContext:
        """Return the settings of a server whose certificate is from an authority that the client does not know."""
        return _served(self._unknown.issue_cert("127.0.0.1"))


def _served(certificate: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context
