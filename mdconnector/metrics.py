"""Status as a page for Prometheus: what `status --prometheus` prints.

Rules: the text exposition format 0.0.4, which node_exporter's textfile collector reads; names and
units by the OpenMetrics conventions; times are seconds since 1970; what is not known has no sample.
Pure: the page is a function of the result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import NamedTuple

from mdconnector.check import judge
from mdconnector.outcomes.status import DomainStatus, Lifetime, StatusResult

PREFIX = "mdconnector"

Sample = tuple[dict[str, str], float]


class Metric(NamedTuple):
    """One gauge, without its prefix: what it means, and its samples."""

    name: str
    help: str
    samples: Callable[[StatusResult, str], Iterable[Sample]]
    """of a result, and the version of mdconnector"""


def render_page(result: StatusResult, version: str) -> str:
    """Return the page: every metric with HELP and TYPE, whether it has a sample or not."""
    return "".join(f"{line}\n" for metric in METRICS for line in _lines(metric, result, version))


def _lines(metric: Metric, result: StatusResult, version: str) -> Iterator[str]:
    name = f"{PREFIX}_{metric.name}"
    yield f"# HELP {name} {_escape_help(metric.help)}"
    yield f"# TYPE {name} gauge"
    for labels, value in metric.samples(result, version):
        yield f"{name}{_labels(labels)} {_number(value)}"


def _labels(labels: dict[str, str]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{key}="{_escape(value)}"' for key, value in labels.items()) + "}"


def _escape(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _escape_help(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n")


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)


def _of_certificates(
    moment: Callable[[Lifetime], datetime],
) -> Callable[[StatusResult, str], Iterator[Sample]]:
    def samples(result: StatusResult, _version: str) -> Iterator[Sample]:
        for domain in _by_name(result):
            for one in _distinct(domain.lifetimes):
                labels = {"name": domain.name, "key_spec": one.key_label}
                yield labels, moment(one).timestamp()

    return samples


def _distinct(lifetimes: Iterable[Lifetime]) -> Iterable[Lifetime]:
    """Return one for each kind of key, the first to end: a series that comes twice voids a page."""
    latest_first = sorted(lifetimes, key=lambda one: one.not_after, reverse=True)
    return {one.key_label: one for one in latest_first}.values()


def _of_domains(
    value: Callable[[DomainStatus, datetime], datetime | float | None],
) -> Callable[[StatusResult, str], Iterator[Sample]]:
    def samples(result: StatusResult, _version: str) -> Iterator[Sample]:
        for domain in _by_name(result):
            found = value(domain, result.now)
            if isinstance(found, datetime):
                yield {"name": domain.name}, found.timestamp()
            elif found is not None:
                yield {"name": domain.name}, float(found)

    return samples


def _states(result: StatusResult, _version: str) -> Iterator[Sample]:
    for domain in _by_name(result):
        yield {"name": domain.name, "state": domain.state.value}, 1


def _is_served(domain: DomainStatus, _now: datetime) -> float | None:
    known = domain.served.is_stored if domain.served else None
    return None if known is None else float(known)


def _by_name(result: StatusResult) -> list[DomainStatus]:
    return sorted(result.domains, key=lambda domain: domain.name)


METRICS = (
    Metric(
        "build_info",
        "Always 1; the version of mdconnector that made this page.",
        lambda _result, version: [({"version": version}, 1)],
    ),
    Metric(
        "status_timestamp_seconds",
        "When this page was made.",
        lambda result, _version: [({}, int(result.now.timestamp()))],
    ),
    Metric(
        "domains",
        "How many managed domains the configuration declares.",
        lambda result, _version: [({}, len(result.domains))],
    ),
    Metric(
        "configuration_errors",
        "How many errors in Apache's configuration may hide managed domains.",
        lambda result, _version: [({}, len(result.findings))],
    ),
    Metric(
        "certificate_not_before_timestamp_seconds",
        "When a live certificate began to be valid.",
        _of_certificates(lambda one: one.not_before),
    ),
    Metric(
        "certificate_not_after_timestamp_seconds",
        "When a live certificate expires.",
        _of_certificates(lambda one: one.not_after),
    ),
    Metric(
        "certificate_renewal_timestamp_seconds",
        "From when on a live certificate is renewed.",
        _of_certificates(lambda one: one.renew_at),
    ),
    Metric(
        "certificate_warning_timestamp_seconds",
        "When MDWarnWindow of a live certificate begins.",
        _of_certificates(lambda one: one.warn_at),
    ),
    Metric(
        "domain_state",
        "Always 1; the label tells the state of a managed domain.",
        _states,
    ),
    Metric(
        "domain_check",
        "What status --check says of a domain: 0 ok, 1 warning, 2 critical, 3 unknown.",
        _of_domains(lambda domain, now: judge(domain, now).level),
    ),
    Metric(
        "domain_consecutive_errors",
        "How many runs in a row have failed for a domain.",
        _of_domains(lambda domain, _now: domain.errors),
    ),
    Metric(
        "domain_failing_since_timestamp_seconds",
        "Since when a domain fails; absent while it does not.",
        _of_domains(lambda domain, _now: domain.failing_since),
    ),
    Metric(
        "domain_next_try_timestamp_seconds",
        "When a failing domain is tried again.",
        _of_domains(lambda domain, _now: domain.next_try),
    ),
    Metric(
        "domain_last_success_timestamp_seconds",
        "When new certificates last came for a domain.",
        _of_domains(lambda domain, _now: domain.last_success),
    ),
    Metric(
        "domain_staged_timestamp_seconds",
        "Since when a set waits in staging; absent where none does.",
        _of_domains(lambda domain, _now: domain.staged.since if domain.staged else None),
    ),
    Metric(
        "domain_pending_timestamp_seconds",
        "Since when an order is open at the CA; absent where none is.",
        _of_domains(lambda domain, _now: domain.pending.since if domain.pending else None),
    ),
    Metric(
        "domain_served_equals_stored",
        "Whether Apache on this host serves what the store holds; absent where it is not known.",
        _of_domains(_is_served),
    ),
)
