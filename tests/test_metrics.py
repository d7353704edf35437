"""The page for Prometheus: its form, its samples, and the rules and the dashboard made for it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest

from mdconnector.metrics import METRICS, PREFIX, Metric, _lines, render_page
from mdconnector.outcomes.status import DomainStatus, StatusResult
from tests.standings import (
    ALL,
    EC,
    FAILING,
    HIDING,
    NOW,
    PENDING,
    SERVED,
    STAGED,
    UNSERVED,
    facts,
    lifetime,
    standing,
)

MONITORING = Path(__file__).resolve().parents[1] / "examples" / "monitoring"
RULES = MONITORING / "mdconnector.rules.yml"
NAMES = {f"{PREFIX}_{metric.name}" for metric in METRICS}
SAMPLE = re.compile(
    r'([a-z_]+)(?:\{((?:[a-z_]+="(?:[^"\\\n]|\\["\\n])*",?)*)\})? (-?\d+(?:\.\d+)?)'
)
needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None,
    # 19 MB, and a server that starts: too much for a test run to install
    reason="needs promtool: apt-get install prometheus",
)


def samples(*domains: DomainStatus) -> dict[str, float]:
    """Return the samples of a page by what stands before their value, without our prefix."""
    found = {}
    for line in render_page(StatusResult(domains, NOW), "1.2.3").splitlines():
        if not line.startswith("#"):
            series, value = line.rsplit(" ", 1)
            found[series.removeprefix(f"{PREFIX}_")] = float(value)
    return found


def promtool(*arguments: str | Path, page: str = "") -> subprocess.CompletedProcess[str]:
    words = ["promtool", *map(str, arguments)]
    return subprocess.run(words, input=page, capture_output=True, text=True, check=False)


def test_every_line_is_help_type_or_a_sample_below_its_own_help_and_type() -> None:
    current = ""
    for line in render_page(ALL, "1.2.3").splitlines():
        if line.startswith("# HELP "):
            _, _, current, text = line.split(" ", 3)
            assert text
        elif line.startswith("# TYPE "):
            assert line == f"# TYPE {current} gauge"
        else:
            match = SAMPLE.fullmatch(line)
            assert match, line
            assert match[1] == current


def test_every_metric_has_a_sample_in_the_example() -> None:
    page = render_page(ALL, "1.2.3")
    without = {name for name in NAMES if not re.search(rf"^{name}[{{ ]", page, re.MULTILINE)}
    assert without == set()


def test_no_series_comes_twice() -> None:
    doubled = standing(specs=(EC, EC))
    lines = render_page(StatusResult((*ALL.domains, doubled), NOW), "1.2.3").splitlines()
    series = [line.rsplit(" ", 1)[0] for line in lines if not line.startswith("#")]
    assert len(series) == len(set(series))


def test_times_are_seconds_and_have_the_labels_name_and_key_spec() -> None:
    found = samples(SERVED)
    for label, one in zip(("rsa2048", "secp256r1"), SERVED.lifetimes, strict=True):
        labels = f'{{name="www.example.org",key_spec="{label}"}}'
        for kind, moment in (
            ("not_before", one.not_before),
            ("not_after", one.not_after),
            ("renewal", one.renew_at),
            ("warning", one.warn_at),
        ):
            assert found[f"certificate_{kind}_timestamp_seconds{labels}"] == moment.timestamp()
    assert found["status_timestamp_seconds"] == NOW.timestamp()
    assert found['build_info{version="1.2.3"}'] == 1
    assert found["domains"] == 1


@pytest.mark.parametrize(
    ("domain", "metric", "value"),
    [
        pytest.param(FAILING, "consecutive_errors", 7, id="errors"),
        pytest.param(SERVED, "consecutive_errors", 0, id="no errors"),
        pytest.param(FAILING, "check", 1, id="check"),
        pytest.param(SERVED, "served_equals_stored", 1, id="served"),
        pytest.param(UNSERVED, "served_equals_stored", 0, id="not served"),
        pytest.param(
            PENDING,
            "pending_timestamp_seconds",
            (NOW - timedelta(hours=5)).timestamp(),
            id="pending",
        ),
        pytest.param(
            STAGED,
            "staged_timestamp_seconds",
            (NOW - timedelta(minutes=40)).timestamp(),
            id="staged",
        ),
        pytest.param(
            FAILING,
            "next_try_timestamp_seconds",
            (NOW + timedelta(hours=3)).timestamp(),
            id="next try",
        ),
        pytest.param(
            FAILING,
            "failing_since_timestamp_seconds",
            (NOW - timedelta(days=2, hours=3)).timestamp(),
            id="failing since",
        ),
        pytest.param(
            SERVED._replace(last_success=NOW),
            "last_success_timestamp_seconds",
            NOW.timestamp(),
            id="last success",
        ),
    ],
)
def test_the_samples_of_a_domain(domain: DomainStatus, metric: str, value: float) -> None:
    assert samples(domain)[f'domain_{metric}{{name="{domain.name}"}}'] == value


def test_errors_that_may_hide_domains_are_counted() -> None:
    page = render_page(StatusResult((SERVED,), NOW, (HIDING, HIDING)), "1.2.3")
    assert f"{PREFIX}_configuration_errors 2\n" in page


def test_the_state_is_a_label() -> None:
    assert samples(FAILING)['domain_state{name="mail.example.org",state="failing"}'] == 1


def test_what_is_not_known_has_no_sample() -> None:
    found = {series.partition("{")[0] for series in samples(standing())}
    assert "domain_served_equals_stored" not in found
    assert "domain_last_success_timestamp_seconds" not in found
    assert "domain_failing_since_timestamp_seconds" not in found
    assert "domain_consecutive_errors" in found


def test_labels_are_escaped() -> None:
    odd = standing('a"b\\c\nd')
    assert samples(odd)['domain_consecutive_errors{name="a\\"b\\\\c\\nd"}'] == 0


def test_the_whole_page_is_as_it_was() -> None:
    result = StatusResult((FAILING, STAGED, PENDING, UNSERVED, SERVED), NOW)
    page = Path(__file__).with_name("mdconnector.prom").read_text()
    assert render_page(result, "1.2.3") == page


def test_of_two_certificates_of_one_kind_the_first_to_end_has_the_sample() -> None:
    ends = (facts(left=50), facts(left=40), facts(left=60))
    domain = standing(lifetimes=tuple(lifetime(one) for one in ends))
    name = 'certificate_not_after_timestamp_seconds{name="a.example",key_spec="rsa2048"}'
    assert samples(domain)[name] == ends[1].not_after.timestamp()


def test_fractions_of_a_second_are_kept_and_help_is_one_line() -> None:
    half = StatusResult((standing(next_try=NOW + timedelta(milliseconds=500)),), NOW)
    page = render_page(half, "1.2.3")
    assert f'next_try_timestamp_seconds{{name="a.example"}} {NOW.timestamp():.0f}.5\n' in page
    odd = Metric("odd", "a\\b\nc", lambda _result, _version: [])
    assert list(_lines(odd, half, "1.2.3")) == [
        r"# HELP mdconnector_odd a\\b\nc",
        "# TYPE mdconnector_odd gauge",
    ]


def names_in(text: str) -> set[str]:
    return set(re.findall(rf"\b{PREFIX}_[a-z_]+", text))


def test_the_dashboard_and_the_rules_know_only_metrics_that_there_are() -> None:
    dashboard = json.loads((MONITORING / "grafana-dashboard.json").read_text())
    expressions = [
        target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())
    ]
    assert len(expressions) >= len(dashboard["panels"])
    for text in (*expressions, RULES.read_text()):
        assert names_in(text) <= NAMES
    assert all(names_in(expression) for expression in expressions)


def test_the_panels_of_the_dashboard_do_not_overlap() -> None:
    dashboard = json.loads((MONITORING / "grafana-dashboard.json").read_text())
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken
        assert max(x for x, _ in cells) < 24
        taken |= cells
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


def test_every_metric_is_documented() -> None:
    text = (MONITORING.parents[1] / "docs" / "monitoring.md").read_text()
    assert {name.removeprefix(f"{PREFIX}_") for name in NAMES} <= set(
        re.findall(r"`([a-z_]+)`", text)
    )


@needs_promtool
def test_promtool_has_nothing_against_the_page() -> None:
    done = promtool("check", "metrics", page=render_page(ALL, "1.2.3"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@needs_promtool
def test_promtool_has_nothing_against_the_rules() -> None:
    assert promtool("check", "rules", RULES).returncode == 0


@needs_promtool
def test_the_rules_fire_as_they_should() -> None:
    done = promtool("test", "rules", MONITORING / "mdconnector.rules.test.yml")
    assert done.returncode == 0, done.stdout + done.stderr
