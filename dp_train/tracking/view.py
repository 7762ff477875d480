"""The saved view "Utility vs. ε": what the MLflow UI shows at the first click.

MLflow keeps a shared view as an experiment tag: a JSON envelope around the page's state, which is JSON, deflated and
in base64. The format is undocumented (seen in 3.17): nothing depends on it, and a run goes on where it fails.
"""

from __future__ import annotations

import base64
import json
import logging
import time
import zlib
from collections.abc import Sequence
from typing import Any

from dp_train.tracking.connection import client

VIEW_KEY = "dp_train_frontier"
VIEW_NAME = "Utility vs. ε"
VIEW_TAG = f"mlflow.sharedViewState.{VIEW_KEY}"

_EPSILON = "privacy/epsilon"
_PARAMS = ("privacy.noise_multiplier", "privacy.clip_norm", "privacy.steps", "optimizer.learning_rate")
_FRONTIER, _WITHIN, _SETTINGS = "dp-frontier", "dp-within", "dp-settings"

_logger = logging.getLogger(__name__)


def experiment_path(experiment_id: str) -> str:
    """The page of an experiment with the saved view open, to be put behind the UI's address."""
    return (
        f"/#/experiments/{experiment_id}/runs?viewStateShareKey={VIEW_KEY}"
        "&compareRunsMode=CHART&workflowType=machine_learning"
    )


def install_view(uri: str, experiment_id: str, metrics: Sequence[str]) -> None:
    """Give the experiment the view, or add `metrics` that it lacks; a failure is a warning and no more.

    A view that already has them is left as it is: somebody may have arranged it.
    """
    try:
        tags = client(uri).get_experiment(experiment_id).tags
        there = _metrics_of(tags[VIEW_TAG]) if VIEW_TAG in tags else []
        wanted = list(dict.fromkeys([*there, *metrics]))
        if wanted == there:
            return
        client(uri).set_experiment_tag(experiment_id, VIEW_TAG, encode_view(view_state(wanted)))
        note = f"[{VIEW_NAME}]({experiment_path(experiment_id).lstrip('/')}): what privacy costs in utility."
        client(uri).set_experiment_tag(experiment_id, "mlflow.note.content", note)
    except Exception as error:  # undocumented, and never worth a run
        _logger.warning("tracking: the saved view was not written (%s); runs are not affected", type(error).__name__)


def view_state(metrics: Sequence[str]) -> dict[str, Any]:
    """State of the runs page: for each metric the score against ε across runs and within them, then the settings."""
    charts: list[dict[str, Any]] = []
    for metric in metrics:
        charts += [
            _chart("SCATTER", f"frontier-{metric}", _FRONTIER, f"{metric} against ε, final")
            | {"xaxis": {"key": _EPSILON, "type": "METRIC"}, "yaxis": {"key": f"utility/{metric}", "type": "METRIC"}},
            _chart("BAR", f"final-{metric}", _FRONTIER, f"{metric}, final, runs without privacy too")
            | {"metricKey": f"utility/{metric}"},
            _line(f"valid/{metric}", f"within-{metric}", f"{metric} against ε, within a run", x=_EPSILON),
        ]
    charts += [
        _line(_EPSILON, "spent", "ε spent, by step", x=None),
        _chart("PARALLEL", "settings", _SETTINGS, "Settings, ε and scores")
        | {
            "selectedParams": list(_PARAMS),
            "selectedMetrics": [_EPSILON, *(f"utility/{metric}" for metric in metrics)],
            "showAllRuns": False,
        },
    ]
    sections = ((_FRONTIER, VIEW_NAME, 2), (_WITHIN, "Within a run", 2), (_SETTINGS, "Settings", 1))
    return {
        "searchFilter": "tags.`dp_train.kind` = 'train'",
        "orderByKey": f"metrics.`{_EPSILON}`",
        "orderByAsc": True,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": [
            f"metrics.`{_EPSILON}`",
            *(f"metrics.`utility/{metric}`" for metric in metrics),
            "params.`privacy.noise_multiplier`",
            "params.`privacy.steps`",
        ],
        "columnOrder": [],
        "columnWidths": {},
        "runsHiddenMode": "SHOWALL",
        "compareRunCharts": charts,
        "compareRunSections": [
            {
                "uuid": uuid,
                "name": name,
                "columns": columns,
                "display": True,
                "isReordered": True,
                "deleted": False,
                "isGenerated": False,
            }
            for uuid, name, columns in sections
        ],
        "viewMaximized": False,
        "runListHidden": True,  # the charts are the first click; the list is one more
        "isAccordionReordered": True,
        "useGroupedValuesInCharts": True,
        "hideEmptyCharts": True,
        "groupBy": None,
        "groupsExpanded": {},
        "globalLineChartConfig": {"xAxisKey": "step", "lineSmoothness": 0, "selectedXAxisMetricKey": ""},
    }


def encode_view(state: dict[str, Any]) -> str:
    """The value of the experiment tag."""
    packed = base64.b64encode(zlib.compress(json.dumps(state).encode(), 9)).decode()
    now = int(time.time() * 1000)
    return json.dumps({"name": VIEW_NAME, "createdAt": now, "updatedAt": now, "state": f"deflate;{packed}"})


def decode_view(tag: str) -> dict[str, Any]:
    """The state in a tag that `encode_view` or the UI has written."""
    packed = str(json.loads(tag)["state"]).removeprefix("deflate;")
    state: dict[str, Any] = json.loads(zlib.decompress(base64.b64decode(packed)))
    return state


def _metrics_of(tag: str) -> list[str]:
    """Metrics that the view draws against ε."""
    charts = decode_view(tag)["compareRunCharts"]
    return [chart["yaxis"]["key"].removeprefix("utility/") for chart in charts if chart["type"] == "SCATTER"]


def _chart(kind: str, uuid: str, section: str, title: str) -> dict[str, Any]:
    return {
        "type": kind,
        "uuid": uuid,
        "displayName": title,
        "metricSectionId": section,
        "runsCountToCompare": 100,
        "deleted": False,
        "isGenerated": False,
    }


def _line(metric: str, uuid: str, title: str, *, x: str | None) -> dict[str, Any]:
    return _chart("LINE", uuid, _WITHIN, title) | {
        "metricKey": metric,
        "selectedMetricKeys": [metric],
        "xAxisKey": "step" if x is None else "metric",
        "selectedXAxisMetricKey": x or "",
        "yAxisKey": "metric",
        "yAxisExpressions": [],
        "xAxisScaleType": "linear",
        "scaleType": "linear",
        "range": {},
        "lineSmoothness": 0,
        "displayPoints": True,
        "ignoreOutliers": False,
        "useGlobalXaxisKey": False,
        "useGlobalLineSmoothing": False,
    }
