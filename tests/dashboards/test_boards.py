"""The dashboards: code and JSON agree, Grafana can read them, and they ask only for what there is."""

from __future__ import annotations

import json
from itertools import combinations
from typing import Any

import pytest
from grafana_foundation_sdk.models.dashboard import Dashboard

from dashboards.build import texts
from dashboards.queries import BOARDS, HERE, board, board_queries, filled, panels
from tests.dashboards.names import CLUSTER, RAY, grouped, installed, labels_of, selectors, wrong_values

QUERIES = board_queries()
BY_PANEL = [pytest.param(query, id=f"{query.where}-{query.panel}-{number}") for number, query in enumerate(QUERIES)]


def test_what_is_committed_is_what_the_code_makes() -> None:
    for name, text in texts().items():
        assert (HERE / f"{name}.json").read_text(encoding="utf-8") == text, "run: make dashboards"
    assert set(texts()) == set(BOARDS) == {path.stem for path in HERE.glob("*.json")}


@pytest.mark.parametrize("name", BOARDS)
def test_a_board_reads_back_as_grafana_models_it(name: str) -> None:
    read = Dashboard.from_json(board(name))
    assert read.uid == f"raytile-{name}"
    assert read.panels is not None
    assert len(read.panels) == len(board(name)["panels"])


@pytest.mark.parametrize("name", BOARDS)
def test_panels_have_numbers_of_their_own_and_do_not_overlap(name: str) -> None:
    every = board(name)["panels"]
    assert sorted(panel["id"] for panel in every) == list(range(1, len(every) + 1))
    cells = [panel["gridPos"] for panel in every]
    for cell in cells:
        assert cell["x"] >= 0
        assert cell["x"] + cell["w"] <= 24
        assert cell["h"] > 0
    for one, other in combinations(cells, 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or above, (one, other)


@pytest.mark.parametrize("name", BOARDS)
def test_a_row_is_filled_to_the_right_edge(name: str) -> None:
    """A gap means that a panel has slipped into another line than it was meant for."""
    covered: dict[int, int] = {}
    for panel in board(name)["panels"]:
        covered[panel["gridPos"]["y"]] = covered.get(panel["gridPos"]["y"], 0) + panel["gridPos"]["w"]
    assert set(covered.values()) == {24}


def described() -> list[Any]:
    return [pytest.param(panel, id=f"{name}-{panel['title']}") for name in BOARDS for panel in panels(name)]


@pytest.mark.parametrize("panel", described())
def test_a_panel_says_what_it_shows_in_which_unit_and_what_none_means(panel: dict[str, Any]) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    assert panel["description"].endswith((".", ")."))
    assert defaults["unit"]
    assert defaults["noValue"]
    assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    values = [step["value"] for step in defaults["thresholds"]["steps"]]
    assert values[0] is None
    assert values[1:] == sorted(values[1:])
    names = [target["legendFormat"] for target in panel["targets"]]
    assert len(set(names)) == len(names) > 0
    assert len({target["refId"] for target in panel["targets"]}) == len(names)


def test_titles_of_a_board_differ() -> None:
    for name in BOARDS:
        titles = [panel["title"] for panel in panels(name)]
        assert len(set(titles)) == len(titles)


@pytest.mark.parametrize("name", BOARDS)
def test_the_reader_chooses_data_source_and_clusters_and_all_means_those_without_labels_too(name: str) -> None:
    chosen = {variable["name"]: variable for variable in board(name)["templating"]["list"]}
    assert list(chosen) == ["datasource", "namespace", "cluster"]
    for variable in ("namespace", "cluster"):
        assert chosen[variable]["includeAll"]
        assert chosen[variable]["allValue"] == ".*"
        assert chosen[variable]["current"]["value"] == "$__all"


@pytest.mark.parametrize("name", BOARDS)
def test_boards_link_to_each_other_and_keep_what_was_chosen(name: str) -> None:
    (link,) = board(name)["links"]
    assert link["includeVars"]
    assert link["keepTime"]
    assert set(link["tags"]) <= set(board(name)["tags"])


@pytest.mark.parametrize("query", BY_PANEL)
def test_an_expression_parses_and_reads_only_what_there_is(query: Any) -> None:
    assert "$" not in query.expression
    read = list(selectors(query.expression))
    assert read
    for asked in read:
        known = labels_of(asked.name)
        assert known is not None, f"{asked.name} is no metric that we know"
        assert not wrong_values(asked)
        assert asked.labels <= known | CLUSTER
        assert asked.labels >= CLUSTER, "the clusters that the reader chose"
    for kept, below in grouped(query.expression):
        for metric in below:
            assert kept <= (labels_of(metric) or set()) | CLUSTER


@pytest.mark.parametrize("query", BY_PANEL)
def test_labels_of_processes_are_summed_away(query: Any) -> None:
    """Every metric is read below a sum (or the like): none reaches the reader with the labels that Ray adds."""
    below = {metric for _, metrics in grouped(query.expression) for metric in metrics}
    assert {asked.name for asked in selectors(query.expression)} == below


@pytest.mark.parametrize("name", RAY)
def test_the_installed_ray_has_the_metrics_that_we_take_from_it(name: str) -> None:
    words, file, labels = RAY[name]
    source = installed(file)
    assert words in source
    if "serve/_private" in file:
        assert all(f'"{label}"' in source for label in labels)


def test_variables_of_the_time_range_are_filled_in() -> None:
    assert filled("rate(x[$__rate_interval]) + y[$__range]", "2m", "3h") == "rate(x[2m]) + y[3h]"


def test_json_is_small_enough_for_a_configmap() -> None:
    assert sum(len((HERE / f"{name}.json").read_bytes()) for name in BOARDS) < 900_000
    assert all(json.loads((HERE / f"{name}.json").read_text())["schemaVersion"] >= 39 for name in BOARDS)
