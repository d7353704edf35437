"""Figures about time, memory and requests, printed as Markdown and not judged.

`make bench`, or `python -m tests.bench [requests] [cold] [enroll] [idle] [scans] [growth]`.
Everything is the real command in its own process, against a Pebble on loopback that takes every
challenge as answered. Peers do the same work one after the other in the same run, so that ratios
hold where seconds do not. One that is not installed is named as missing; `apt-get install certbot
lego dehydrated` has them.
"""
