"""
Keeps secrets of requests out of everything that is stored: a marker stands for each until the request is sent.

Secrets may be in a path, a query, a header or a body, and servers echo them in links and redirects. So they are
replaced wherever a task is built, however they are spelled there.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import quote, quote_plus

MIN_SECRET_CHARS = 4  # replacing shorter texts would garble everything
_DIGEST_HEX = 12
_PATH_SAFE = "!$&'()*+,;=:@-._~"  # RFC 3986, 3.3
_MARKER = re.compile(rf"~~([0-9a-f]{{{_DIGEST_HEX}}})([a-z])~~")  # only characters that no encoding changes
_AUTHORITY = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*")


class Sealer:
    """
    Replaces secrets by markers, and markers by secrets.

    A marker holds a digest of its secret, so another machine or a later run reads it with the same configuration.

    Args:
        secrets: The secrets; those of less than four characters are ignored.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        self._secrets: dict[str, str] = {}
        self._markers: dict[str, str] = {}
        for secret in sorted({one for one in secrets if len(one) >= MIN_SECRET_CHARS}, key=len, reverse=True):
            digest = hashlib.blake2b(
                secret.encode("utf-8", "surrogatepass"), digest_size=_DIGEST_HEX // 2
            ).hexdigest()
            self._secrets[digest] = secret
            for kind, spell in _SPELLINGS.items():
                self._markers.setdefault(spell(secret), f"~~{digest}{kind}~~")
        longest_first = sorted(self._markers, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None

    def __bool__(self) -> bool:
        return self._pattern is not None

    def seal(self, text: str) -> str:
        """Return a text with its secrets replaced by markers; the host of a URL stays."""
        if self._pattern is None or not self._pattern.search(text):
            return text
        authority = _AUTHORITY.match(text)
        start = authority.end() if authority else 0
        return text[:start] + self._pattern.sub(lambda found: self._markers[found[0]], text[start:])

    def seal_all(self, value: Any) -> Any:
        """Return a JSON value with the secrets in all its texts replaced; the same object if there are none."""
        if isinstance(value, str):
            return self.seal(value)
        if isinstance(value, Mapping):
            sealed = {name: self.seal_all(member) for name, member in value.items()}
            return sealed if any(sealed[name] is not member for name, member in value.items()) else value
        if isinstance(value, list | tuple):
            items = [self.seal_all(item) for item in value]
            return items if any(new is not old for new, old in zip(items, value, strict=True)) else value
        return value

    def unseal(self, text: str) -> str:
        """Return a text with its markers replaced by their secrets, in the spelling that was replaced."""
        return _MARKER.sub(self._secret_of, text) if "~~" in text else text

    def mask(self, text: str) -> str:
        """Return a text for the user: secrets and markers become `***`."""
        if self._pattern is not None:
            text = self._pattern.sub("***", text)
        return mask_markers(text)

    def _secret_of(self, found: re.Match[str]) -> str:
        secret, spell = self._secrets.get(found[1]), _SPELLINGS.get(found[2])
        return found[0] if secret is None or spell is None else spell(secret)


def mask_markers(text: str) -> str:
    """Return a text for the user: each marker becomes `***`."""
    return _MARKER.sub("***", text) if "~~" in text else text


def _base64(text: str) -> str:
    return base64.b64encode(text.encode("utf-8", "surrogatepass")).decode()


_SPELLINGS: dict[str, Callable[[str], str]] = {
    "r": str,
    "q": lambda text: quote(text, safe="", errors="replace"),
    "s": lambda text: quote(text, safe=_PATH_SAFE, errors="replace"),
    "p": lambda text: quote_plus(text, errors="replace"),
    "j": lambda text: json.dumps(text)[1:-1],
    "u": lambda text: json.dumps(text, ensure_ascii=False)[1:-1],
    "b": _base64,
}
"""How a secret may be spelled: as it is, percent-encoded in three ways, in JSON with and without escapes, in base64."""
