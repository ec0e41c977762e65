"""A command line as a shell would read it: quotes, escapes, continued lines, `$'…'`; nothing is expanded."""

from __future__ import annotations

import re

from scrapeq.errors import UsageError

_BLANK = " \t\r\n"
_ESCAPES = {
    "n": "\n",
    "t": "\t",
    "r": "\r",
    "a": "\a",
    "b": "\b",
    "f": "\f",
    "v": "\v",
    "e": "\x1b",
    "E": "\x1b",
}
_CODED = re.compile(r"x([0-9a-fA-F]{1,2})|u([0-9a-fA-F]{1,4})|U([0-9a-fA-F]{1,8})|([0-7]{1,3})")


def shell_words(text: str) -> list[str]:
    """
    The words of one command.

    Raises:
        UsageError: a quote is not closed.
    """
    words: list[str] = []
    word: str | None = None
    at = 0
    while at < len(text):
        char = text[at]
        if char in _BLANK:
            if word is not None:
                words.append(word)
                word = None
            at += 1
        elif char == "\\":
            following = text[at + 1 : at + 2]
            if following == "\r" and text[at + 2 : at + 3] == "\n":
                at += 3
                continue
            if following not in ("\n", ""):
                word = (word or "") + following
            at += 2
        elif char == "'":
            end = _end(text, "'", at + 1)
            word = (word or "") + text[at + 1 : end]
            at = end + 1
        elif char == '"':
            inner, at = _double(text, at + 1)
            word = (word or "") + inner
        elif text.startswith("$'", at):
            inner, at = _ansi(text, at + 2)
            word = (word or "") + inner
        else:
            word = (word or "") + char
            at += 1
    return words if word is None else [*words, word]


def _unclosed(quote: str, text: str, start: int) -> UsageError:
    return UsageError(f"a quote ({quote}) is not closed: {text[start : start + 20]!r}…")


def _end(text: str, quote: str, start: int) -> int:
    end = text.find(quote, start)
    if end < 0:
        raise _unclosed(quote, text, start)
    return end


def _double(text: str, at: int) -> tuple[str, int]:
    """What stands in double quotes, and where it goes on behind them (POSIX shell, 2.2.3)."""
    start, found = at, ""
    while at < len(text):
        char = text[at]
        if char == '"':
            return found, at + 1
        if char == "\\" and text[at + 1 : at + 2] in ("$", "`", '"', "\\", "\n"):
            found += "" if text[at + 1] == "\n" else text[at + 1]
            at += 2
        else:
            found += char
            at += 1
    raise _unclosed('"', text, start)


def _ansi(text: str, at: int) -> tuple[str, int]:
    """What stands in $'…', which browsers write where the text has an escape."""
    start, found = at, ""
    while at < len(text):
        char = text[at]
        if char == "'":
            return found, at + 1
        if char != "\\":
            found += char
            at += 1
            continue
        coded = _CODED.match(text, at + 1)
        if coded:
            digits, base = next(
                (group, 8 if i == 3 else 16) for i, group in enumerate(coded.groups()) if group
            )
            found += chr(min(int(digits, base), 0x10FFFF))
            at = coded.end()
        else:
            following = text[at + 1 : at + 2]
            found += _ESCAPES.get(following, following)
            at += 2
    raise _unclosed("$'", text, start)
