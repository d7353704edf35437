"""The one sanitiser: what a CA, a file or another program wrote is made safe to print.

Rule: no control, escape, bidi or invisible character, and no blank but the ordinary one, ever
reaches a terminal, a mail from cron, syslog or JSON text meant for people. They appear as \\xNN or
\\uNNNN; lines are folded into one.
"""

from __future__ import annotations

MAX_CHARACTERS = 500


def printable(text: str, limit: int = MAX_CHARACTERS) -> str:
    """Return `text` on one line, the unprintable escaped, with at most `limit` characters."""
    folded = " ".join(text[: limit * 4].split())
    shown = "".join(_shown(character) for character in folded)
    if len(shown) > limit:
        return shown[: limit - 1] + "…"
    return shown


def escaped(text: str) -> str:
    """Return `text` with the unprintable escaped, whole and with its blanks as they are."""
    if text.isprintable():
        return text
    return "".join(_shown(character) for character in text)


def _shown(character: str) -> str:
    if character.isprintable():
        return character
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
