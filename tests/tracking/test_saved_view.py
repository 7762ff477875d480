"""The saved view decodes to what the UI reads, grows with the metrics, and can fail without harm."""

import json
import logging

import pytest

from dp_train.tracking.connection import client
from dp_train.tracking.store import TrackingStore
from dp_train.tracking.ui import ui_url
from dp_train.tracking.view import AUDITED, VIEW_NAME, VIEW_TAG, decode_view, encode_view, experiment_path


def tag(store: TrackingStore, experiment: str) -> str:
    return str(client(store.uri).get_experiment(experiment).tags[VIEW_TAG])


def test_the_view_decodes_and_draws_the_score_against_epsilon(store: TrackingStore) -> None:
    experiment = store.experiment("summary", metrics=["rougeL"])
    assert json.loads(tag(store, experiment))["name"] == VIEW_NAME
    state = decode_view(tag(store, experiment))
    charts = {chart["uuid"]: chart for chart in state["compareRunCharts"]}
    assert [chart["type"] for chart in charts.values()] == [
        "IMAGE",
        "LINE",
        "SCATTER",
        "BAR",
        "LINE",
        "LINE",
        "PARALLEL",
        "SCATTER",
    ]
    assert charts["picture"]["imageKeys"] == ["frontier"]
    assert charts["frontier-rougeL"]["selectedMetricKeys"][:2] == ["frontier/rougeL", "frontier/rougeL/without privacy"]
    assert charts["frontier-rougeL"]["xAxisScaleType"] == "log"
    assert charts["runs-rougeL"]["xaxis"] == {"key": "privacy/epsilon", "type": "METRIC"}
    assert charts["runs-rougeL"]["yaxis"] == {"key": "utility/rougeL", "type": "METRIC"}
    assert charts["within-rougeL"]["selectedXAxisMetricKey"] == "privacy/epsilon"
    assert {chart["metricSectionId"] for chart in charts.values()} == {
        section["uuid"] for section in state["compareRunSections"]
    }
    assert state["searchFilter"] == "tags.`dp_train.kind` != 'pretrain'"


def test_a_new_metric_is_added_and_an_arranged_view_is_left_alone(store: TrackingStore) -> None:
    experiment = store.experiment("both", metrics=["rougeL"])
    arranged = decode_view(tag(store, experiment)) | {"runListHidden": False}
    client(store.uri).set_experiment_tag(experiment, VIEW_TAG, encode_view(arranged))
    store.experiment("both", metrics=["rougeL"])
    assert decode_view(tag(store, experiment))["runListHidden"] is False
    store.experiment("both", metrics=["perplexity"])
    scatters = [
        chart for chart in decode_view(tag(store, experiment))["compareRunCharts"] if chart["type"] == "SCATTER"
    ]
    assert [chart["yaxis"]["key"] for chart in scatters] == ["utility/rougeL", "utility/perplexity", AUDITED]


def test_a_view_that_cannot_be_written_is_a_warning(store: TrackingStore, caplog: pytest.LogCaptureFixture) -> None:
    experiment = store.experiment("summary")
    client(store.uri).set_experiment_tag(experiment, VIEW_TAG, "no JSON at all")
    with caplog.at_level(logging.WARNING):
        assert store.experiment("summary", metrics=["rougeL"]) == experiment
    assert caplog.messages == ["tracking: the saved view was not written (JSONDecodeError); runs are not affected"]


def test_ten_metrics_fit_into_the_tag(store: TrackingStore) -> None:
    experiment = store.experiment("many", metrics=[f"metric_{number}" for number in range(10)])
    assert len(tag(store, experiment)) < 20000


def test_the_address_opens_charts_in_the_machine_learning_workflow() -> None:
    assert ui_url("3", base="http://127.0.0.1:5001/") == (
        "http://127.0.0.1:5001/#/experiments/3/runs?viewStateShareKey=dp_train_frontier"
        "&compareRunsMode=CHART&workflowType=machine_learning"
    )
    assert ui_url("3") == "http://127.0.0.1:5000" + experiment_path("3")
