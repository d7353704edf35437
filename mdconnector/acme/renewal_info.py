"""When a CA would have a certificate renewed (RFC 9773, ACME Renewal Information).

Rules: an unsigned GET. A window that cannot be meant is a CaProtocolError.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple

from mdconnector.acme.advice import Purpose
from mdconnector.acme.answers import in_utc
from mdconnector.acme.session import Session
from mdconnector.certificates import CertificateFacts
from mdconnector.errors import CaProtocolError
from mdconnector.printable import printable


class Suggestion(NamedTuple):
    """The CA's answer; `pause` is its Retry-After."""

    window: tuple[datetime, datetime]
    pause: timedelta | None
    explanation: str
    """safe to print; may be empty"""


def fetch_suggestion(session: Session, facts: CertificateFacts) -> Suggestion | None:
    """Ask about one certificate; None where the CA offers no such information."""
    base = session.directory().renewal_info
    if base is None:
        return None
    url = f"{base.rstrip('/')}/{facts.ari_id}"
    response = session.get(url, purpose=Purpose.RENEWAL_INFO)
    members = response.json("renewal information")
    found = members.object_or_none("suggestedWindow")
    if found is None:
        raise CaProtocolError("the CA's renewal information has no 'suggestedWindow'", url=url)
    window = (_time(found.text("start"), url), _time(found.text("end"), url))
    if window[1] <= max(window[0], facts.not_before):
        raise CaProtocolError("the CA's suggested window cannot be meant", url=url)
    seconds = response.retry_after_seconds
    return Suggestion(
        window,
        None if seconds is None else timedelta(seconds=seconds),
        printable(members.text_or_none("explanationURL") or "", 200),
    )


def _time(text: str, url: str) -> datetime:
    try:
        return in_utc(datetime.fromisoformat(text)).replace(microsecond=0)
    except (ValueError, OverflowError) as error:
        raise CaProtocolError("the CA's suggested window has no dates", url=url) from error
