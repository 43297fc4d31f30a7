"""The alerts: they read what there is and say what to do; Prometheus' own tool sees each fire, and stay silent."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from dashboards.queries import HERE, alert_queries, rules
from tests.dashboards.names import CLUSTER, grouped, labels_of, selectors, wrong_values

RULES = HERE / "alerts.yaml"
CASES = Path(__file__).with_name("alerts_test.yaml")
ALERTS = [rule for rule in rules() if "alert" in rule]
NAMES = [rule["alert"] for rule in ALERTS]
RECORDED = {rule["record"] for rule in rules() if "record" in rule}


@pytest.fixture(scope="module")
def promtool() -> str:
    beside = Path(sys.executable).with_name("promtool")
    found = str(beside) if beside.exists() else shutil.which("promtool")
    if found is None and os.environ.get("CI") == "true":
        pytest.fail("promtool is missing: run make promtool, or install Prometheus so that it is on PATH")
    if found is None:
        pytest.skip("promtool is missing: run make promtool")
    return found


def told(promtool: str, *words: str, where: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([promtool, *words], cwd=where, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("query", alert_queries(), ids=lambda query: query.panel)
def test_an_alert_reads_only_what_there_is(query: Any) -> None:
    read = [asked for asked in selectors(query.expression) if asked.name not in RECORDED]
    assert read
    for asked in read:
        known = labels_of(asked.name)
        assert known is not None, f"{asked.name} is no metric that we know"
        assert not wrong_values(asked)
        assert asked.labels <= known
    for kept, below in grouped(query.expression):
        # but for an alert that a service has no cluster at all: after an upgrade it has one of another name
        enough = {"namespace"} if query.panel == "RaytileNoMetrics" else CLUSTER
        assert kept >= enough, "clusters must not be mixed"
        for metric in below - RECORDED:
            assert kept <= (labels_of(metric) or set()) | CLUSTER


@pytest.mark.parametrize("rule", ALERTS, ids=NAMES)
def test_an_alert_says_how_bad_it_is_and_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert set(rule["annotations"]) == {"summary", "description", "runbook"}
    file, _, anchor = rule["annotations"]["runbook"].partition("#")
    assert file == "dashboards/runbook.md"
    assert anchor == rule["alert"].lower()


def test_the_runbook_has_one_section_for_each_alert_and_its_links_lead_somewhere() -> None:
    text = (HERE / "runbook.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^## (\w+)$", text, re.M)) == sorted(NAMES)
    for target in re.findall(r"\]\(([^)]+)\)", text):
        file, _, anchor = target.partition("#")
        assert not file or (HERE / file).exists()
        assert not anchor or anchor in {name.lower() for name in NAMES}


def test_names_of_alerts_differ() -> None:
    assert len(set(NAMES)) == len(NAMES)


def test_rules_are_well_formed(promtool: str) -> None:
    done = told(promtool, "check", "rules", str(RULES), where=HERE)
    assert done.returncode == 0, done.stderr


def test_each_alert_fires_when_it_should_and_only_then(promtool: str) -> None:
    done = told(promtool, "test", "rules", CASES.name, where=CASES.parent)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("expression", ["vector(1) > 2", "vector(1)"])
def test_an_alert_that_never_or_always_fires_would_be_found(promtool: str, tmp_path: Path, expression: str) -> None:
    changed = yaml.safe_load(RULES.read_text(encoding="utf-8"))
    for group in changed["groups"]:
        for rule in group["rules"]:
            if "alert" in rule:
                rule["expr"] = expression
    (tmp_path / "alerts.yaml").write_text(yaml.safe_dump(changed), encoding="utf-8")
    cases = yaml.safe_load(CASES.read_text(encoding="utf-8"))
    cases["rule_files"] = ["alerts.yaml"]
    (tmp_path / "cases.yaml").write_text(yaml.safe_dump(cases), encoding="utf-8")
    done = told(promtool, "test", "rules", "cases.yaml", where=tmp_path)
    assert done.returncode != 0
    for name in NAMES:
        assert re.search(rf'alertname(=\\?"|: ){name}', done.stdout + done.stderr), f"{name} has no such case"
