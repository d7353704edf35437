#!/usr/bin/env python3
"""Post events to a web hook, for MDMessageCmd.

    MDMessageCmd "/usr/local/bin/webhook.py /etc/webhook.conf"

It is called as `webhook.py FILE EVENT NAME`. FILE is JSON, readable by root alone, because the URL
of a web hook is a secret: {"url": "https://...", "events": ["errored", "expiring", "installed"]}.
The body is {"text": ...}, which Slack, Mattermost, Rocket.Chat and Zulip's Slack hook take.
`renewing` and `challenge-setup`, whose failure would hold up a certificate, are never posted.
"""

import json
import socket
import sys
import urllib.request
from pathlib import Path

TEXTS = {
    "renewed": "has a new certificate, which waits to be promoted",
    "installed": "has a new certificate, which is live",
    "expiring": "has a certificate that expires soon",
    "errored": "got no new certificate: see `mdconnector status {name}`",
}


def main(file: str, event: str, name: str) -> None:
    """Post one message, if the file asks for this event."""
    settings = json.loads(Path(file).read_text())
    if event not in TEXTS or event not in settings.get("events", ["errored", "expiring"]):
        return
    text = f"{socket.gethostname()}: {name} {TEXTS[event].format(name=name)}"
    request = urllib.request.Request(  # noqa: S310 - the administrator's URL
        settings["url"],
        json.dumps({"text": text}).encode(),
        {"Content-Type": "application/json"},
        method="POST",
    )
    urllib.request.urlopen(request, timeout=20).close()  # noqa: S310 - the administrator's URL


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except (OSError, ValueError, KeyError) as error:
        # The URL is a secret, so nothing of what was tried is repeated.
        sys.exit(f"webhook: {type(error).__name__}")
