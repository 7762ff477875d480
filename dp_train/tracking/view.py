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
FRONTIER_PICTURE = "frontier"
"""Key of the picture that a parent run logs; the view shows it first."""
REFERENCES = ("without privacy", "best without bounds", "public start", "best baseline")
"""Horizontal lines of a frontier chart, each a metric ``frontier/<score>/<name>`` of the parent run."""
AUDITED = "audit/epsilon_white_box"
"""What an audit says that ε is at least; drawn against the claim."""
_FRONTIER, _RUNS, _WITHIN, _SETTINGS, _AUDIT = "dp-frontier", "dp-runs", "dp-within", "dp-settings", "dp-audit"

_logger = logging.getLogger(__name__)


def experiment_path(experiment_id: str) -> str:
    """The page of an experiment with the saved view open, to be put behind the UI's address."""
    return (
        f"/#/experiments/{experiment_id}/runs?viewStateShareKey={VIEW_KEY}"
        "&compareRunsMode=CHART&workflowType=machine_learning"
    )


def install_view(uri: str, experiment_id: str, metrics: Sequence[str]) -> None:
    """Give the experiment the view, or add `metrics` that it lacks; a failure is a warning and no more.

    A view that already has them is left as it is: a user may have arranged it.
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


def show_children(uri: str, experiment_id: str, run_id: str) -> None:
    """Open a parent run in the view, whose trials the page would collapse; a failure is a warning and no more."""
    try:
        state = decode_view(client(uri).get_experiment(experiment_id).tags[VIEW_TAG])
        state["runsExpanded"] = {**state.get("runsExpanded", {}), run_id: True}
        client(uri).set_experiment_tag(experiment_id, VIEW_TAG, encode_view(state))
    except Exception as error:
        _logger.warning("tracking: the saved view was not changed (%s); runs are not affected", type(error).__name__)


def view_state(metrics: Sequence[str]) -> dict[str, Any]:
    """State of the runs page.

    First the frontier, as a picture and as a curve with its reference lines, which parent runs log; then all runs by
    their own ε; then what happened within each; then the settings.
    """
    charts: list[dict[str, Any]] = [
        _chart("IMAGE", "picture", _FRONTIER, "Frontier") | {"imageKeys": [FRONTIER_PICTURE], "step": 0}
    ]
    for metric in metrics:
        names = [f"frontier/{metric}", *(f"frontier/{metric}/{name}" for name in REFERENCES)]
        charts += [
            # The page draws a logarithmic axis for steps alone; a frontier's step is 1000·ε.
            _line(names, f"frontier-{metric}", _FRONTIER, f"{metric} against 1000·ε", x=None, scale="log"),
            _chart("SCATTER", f"runs-{metric}", _RUNS, f"{metric} against ε, each run")
            | {"xaxis": {"key": _EPSILON, "type": "METRIC"}, "yaxis": {"key": f"utility/{metric}", "type": "METRIC"}},
            _chart("BAR", f"final-{metric}", _RUNS, f"{metric}, runs without privacy too")
            | {"metricKey": f"utility/{metric}"},
            _line([f"valid/{metric}"], f"within-{metric}", _WITHIN, f"{metric} against ε, within a run", x=_EPSILON),
        ]
    charts += [
        _line([_EPSILON], "spent", _WITHIN, "ε spent, by step", x=None),
        _chart("PARALLEL", "settings", _SETTINGS, "Settings, ε and scores")
        | {
            "selectedParams": list(_PARAMS),
            "selectedMetrics": [_EPSILON, *(f"utility/{metric}" for metric in metrics)],
            "showAllRuns": False,
        },
        _chart("SCATTER", "audit", _AUDIT, "Lower bound of the audit against the claimed ε, each run")
        | {"xaxis": {"key": _EPSILON, "type": "METRIC"}, "yaxis": {"key": AUDITED, "type": "METRIC"}},
    ]
    sections = (
        (_FRONTIER, f"{VIEW_NAME} (step: 1000·ε)", 2),
        (_RUNS, "Runs", 2),
        (_WITHIN, "Within a run", 2),
        (_SETTINGS, "Settings", 1),
        (_AUDIT, "Audit", 2),
    )
    return {
        "searchFilter": "tags.`dp_train.kind` != 'pretrain'",  # trials and the parent that holds their frontier
        "orderByKey": f"metrics.`{_EPSILON}`",
        "orderByAsc": True,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": [
            f"metrics.`{_EPSILON}`",
            "metrics.`privacy/delta`",
            "params.`privacy.unit`",
            *(f"metrics.`utility/{metric}`" for metric in metrics),
            "params.`privacy.noise_multiplier`",
            "params.`privacy.steps`",
            "attributes.`Duration`",
            "tags.`privacy.claim`",
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
        "runsExpanded": {},
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
    drawn = [chart["yaxis"]["key"] for chart in charts if chart["type"] == "SCATTER"]
    return [key.removeprefix("utility/") for key in drawn if key.startswith("utility/")]


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


def _line(
    metrics: Sequence[str], uuid: str, section: str, title: str, *, x: str | None, scale: str = "linear"
) -> dict[str, Any]:
    return _chart("LINE", uuid, section, title) | {
        "metricKey": metrics[0],
        "selectedMetricKeys": list(metrics),
        "xAxisKey": "step" if x is None else "metric",
        "selectedXAxisMetricKey": x or "",
        "yAxisKey": "metric",
        "yAxisExpressions": [],
        "xAxisScaleType": scale,
        "scaleType": "linear",
        "range": {},
        "lineSmoothness": 0,
        "displayPoints": True,
        "ignoreOutliers": False,
        "useGlobalXaxisKey": False,
        "useGlobalLineSmoothing": False,
    }
