"""Warnings on standard error, of what went wrong and stopped nothing.

Rule: logging is loaded with the first of them: it takes long, and most runs have none.
"""

from __future__ import annotations

import sys


def warn(text: str) -> None:
    """Warn of something, which is safe to print."""
    import logging

    logging.basicConfig(format="mdconnector: %(levelname)s: %(message)s", stream=_CurrentStderr())
    logging.getLogger(__package__).warning("%s", text)


class _CurrentStderr:
    """Standard error as it is when something is written: a board above puts itself in between."""

    def write(self, text: str) -> int:
        """Write text."""
        return sys.stderr.write(text)

    def flush(self) -> None:
        """Flush."""
        sys.stderr.flush()
