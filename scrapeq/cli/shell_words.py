"""Split a shell command into words, without expanding variables or globs."""

from __future__ import annotations

import re
import shlex

from scrapeq.errors import UsageError

# The parts of a command that shlex reads differently from bash, beside those that only have to be skipped.
_PARTS = re.compile(
    r"""(?P<literal>'[^']*')
      | \$'(?P<ansi>(?:[^'\\]|\\.)*)'
      | (?P<double>"(?:[^"\\]|\\.)*")
      | (?P<continuation>\\(?:\r?\n|\Z))
      | (?P<escaped>\\.)
      | (?P<unclosed>\$?'|")""",
    re.VERBOSE | re.DOTALL,
)
_IN_DOUBLE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPE = re.compile(
    r"\\(?:x([0-9a-fA-F]{1,2})|u([0-9a-fA-F]{1,4})|U([0-9a-fA-F]{1,8})|([0-7]{1,3})|(.))", re.DOTALL
)
_LETTERS = dict(zip("ntrabfveE", "\n\t\r\a\b\f\v\x1b\x1b", strict=True))
_CONTEXT = 20  # characters of the command shown in an error


def shell_words(text: str) -> list[str]:
    """
    Return the words of one command, as bash would split it.

    `shlex` does the splitting. It does not know `$'…'` (browsers write it when a value needs escapes), continued
    lines, and the escapes ``\\$`` and ``\\``` inside double quotes (POSIX shell, 2.2.3); those are rewritten first.

    Raises:
        UsageError: A quote is not closed.
    """
    return shlex.split(_PARTS.sub(_for_shlex, text))


def _for_shlex(found: re.Match[str]) -> str:
    """Return one part of the command in a form that shlex reads as bash does."""
    part = found[0]
    match found.lastgroup:
        case "ansi":
            return shlex.quote(_ESCAPE.sub(_decoded, found["ansi"]))
        case "double":
            return _IN_DOUBLE.sub(lambda one: {"\n": "", "$": "$", "`": "`"}.get(one[1], one[0]), part)
        case "continuation":
            return ""
        case "unclosed":
            rest = found.string[found.end() :][:_CONTEXT]
            raise UsageError(f"--curl: unclosed quote {part} before {rest!r}")
    return part


def _decoded(found: re.Match[str]) -> str:
    """Return the character of one escape sequence in `$'…'`."""
    *hexadecimal, octal, letter = found.groups()
    if letter is not None:
        return _LETTERS.get(letter, letter)
    code = int(octal, 8) if octal else int("".join(filter(None, hexadecimal)), 16)
    return chr(min(code, 0x10FFFF))
