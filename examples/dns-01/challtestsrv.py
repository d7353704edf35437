#!/usr/bin/env python3
"""A dns-01 command for MDChallengeDns01 that sets TXT records in pebble-challtestsrv.

    MDChallengeDns01 /path/to/challtestsrv.py http://127.0.0.1:8055

It is called as `challtestsrv.py URL setup DOMAIN VALUE` and `… URL teardown DOMAIN [VALUE]`, as
mod_md calls every such command. The same domain may be set up twice with different values, once
for example.org and once for *.example.org, so a value is added to those that are there.
"""

import json
import sys
import urllib.request


def main(url: str, action: str, domain: str, value: str = "") -> None:
    """Add the record, or take all records of the name away."""
    record = {"host": f"_acme-challenge.{domain}."}
    match action:
        case "setup":
            post(f"{url}/set-txt", record | {"value": value})
        case "teardown":
            post(f"{url}/clear-txt", record)
        case _:
            sys.exit(f"unknown action {action}")


def post(url: str, members: dict[str, str]) -> None:
    """Send one command to the management interface."""
    request = urllib.request.Request(url, json.dumps(members).encode(), method="POST")  # noqa: S310 - the administrator's URL
    urllib.request.urlopen(request, timeout=10).close()  # noqa: S310 - the administrator's URL


if __name__ == "__main__":
    main(*sys.argv[1:])
