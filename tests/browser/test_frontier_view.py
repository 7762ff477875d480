"""The first click: a browser opens the printed address and finds utility against ε.

Needs chromium and chromedriver (Debian: apt-get install chromium-driver); without them it fails and says so.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.support.ui import WebDriverWait

from dp_train.engines.base import EngineName, StepRecord
from dp_train.privacy.monitor import RunMonitor
from dp_train.privacy.plan import PrivacyPlan
from dp_train.tracking.callback import MlflowCallback
from dp_train.tracking.figures import FrontierPanel, FrontierPoint, draw_frontier
from dp_train.tracking.run import RunKind
from dp_train.tracking.store import TrackingStore
from dp_train.tracking.ui import start_ui
from dp_train.training.callbacks import Result, RunStart, RunStatus, StepEnd

pytestmark = pytest.mark.browser

STEPS = 3
SIGMAS = (4.0, 2.0, 1.0, 0.7)
BASE = PrivacyPlan(sample_rate=0.1, expected_units=10, steps=STEPS, delta=1e-5, noise_multiplier=1.0)


def record_run(store: TrackingStore, experiment: str, parent_id: str, plan: PrivacyPlan, score: float) -> float | None:
    """One child as the command line would record it; answers its ε."""
    name = f"sigma {plan.calibrated_noise_multiplier:g}" if plan.private else "without privacy"
    with store.start_run(experiment, name=name, parent_id=parent_id) as run:
        step_now = 0
        callback = MlflowCallback(run, validate=lambda: {"rougeL": score * step_now / STEPS})
        callback.on_start(
            RunStart(
                task="meeting_summary",
                plan=plan,
                engine=EngineName.HOOKS if plan.private else EngineName.NON_PRIVATE,
                first_step=0,
                trainable_parameters=1000,
                consent_root="ab" * 32,
                seed_is_fixed=False,
            )
        )
        run.log_params({"optimizer.learning_rate": 0.001})
        monitor = RunMonitor(plan)
        for step in range(STEPS):
            step_now = step + 1
            record = StepRecord(
                step=step,
                clip_norm=plan.clip_norm,
                noise_std=plan.calibrated_noise_multiplier * plan.clip_norm if plan.private else 0.0,
                noise_draws=int(plan.private),
                divisor=plan.expected_units,
                units=10,
                nonfinite_units=0,
                clipped_units=5,
                loss_sum=40.0,
            )
            monitor.record(
                step,
                units_drawn=record.units,
                noise_draws=record.noise_draws,
                noise_std=record.noise_std,
                clip_norm=record.clip_norm,
                divisor=record.divisor,
            )
            callback.on_step(
                StepEnd(
                    step=step_now,
                    learning_rate=0.001,
                    epsilon=plan.epsilon(steps=step_now) if plan.private else None,
                )
            )
        claim = monitor.claim(100)
        callback.on_end(Result(status=RunStatus.FINISHED, steps=STEPS, epsilon=claim, seconds=1.0, checkpoint=None))
        run.log_scores({"rougeL": score})
        return claim.unwrap() if plan.private else None


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Chrome]:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if not (chromium and driver):
        pytest.fail("no chromium and chromedriver on PATH; install them, or leave the test out: -m 'not browser'")
    options = ChromeOptions()
    options.binary_location = chromium
    for flag in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--window-size=1600,1200",
        f"--user-data-dir={tmp_path / 'profile'}",
    ):
        options.add_argument(flag)
    chrome = Chrome(options=options, service=Service(driver))
    yield chrome
    chrome.quit()


SCATTER_CHARTS = """
return [...document.querySelectorAll('.js-plotly-plot')]
  .filter(plot => (plot.data || []).some(trace => trace.mode === 'markers'))
  .map(plot => ({
    x: plot.layout.xaxis.title.text,
    y: plot.layout.yaxis.title.text,
    drawn: plot.querySelectorAll('.scatterlayer .point').length,
  }));
"""


JOINED = """
return [...document.querySelectorAll('.js-plotly-plot')]
  .filter(plot => plot.layout.xaxis && plot.layout.xaxis.type === 'log')
  .map(plot => ({
    names: (plot.data || []).map(trace => trace.name),
    points: Math.max(...(plot.data || []).map(trace => (trace.x || []).length)),
    drawn: plot.querySelectorAll('.scatterlayer .js-line').length,
  }));
"""

PICTURE = """
const picture = [...document.querySelectorAll('img')].find(image => image.src.includes('images'));
return picture && picture.naturalWidth > 0 ? picture.getBoundingClientRect().bottom <= window.innerHeight : null;
"""


def test_the_printed_address_shows_a_point_for_each_private_run(
    browser: Chrome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    store = TrackingStore.open("sqlite:///mlflow.db", folder=tmp_path)
    experiment = store.experiment("frontier", metrics=["rougeL"])
    with store.start_run(experiment, name="curve", kind=RunKind.TRADEOFF) as parent:
        plans = [BASE.replace(noise_multiplier=sigma) for sigma in SIGMAS] + [BASE.without_privacy()]
        points = []
        for place, plan in enumerate(plans):
            score = 0.2 + 0.02 * place
            epsilon = record_run(store, experiment, parent.run_id, plan, score)
            points.append(FrontierPoint(task="summary", metric="rougeL", epsilon=epsilon, score=score))
        references = {"without privacy": 0.28, "public start": 0.15, "best baseline": 0.22}
        parent.log_frontier(points, {"rougeL": references})
        panel = FrontierPanel(task="summary", axis="ROUGE-L F1", higher_is_better=True, points=points, delta=1e-5)
        parent.log_picture(draw_frontier([panel], tmp_path / "drawn")[0])

    with start_ui(store, port=None) as server:
        browser.get(server.url(experiment))
        charts = WebDriverWait(browser, 60).until(
            lambda chrome: [chart for chart in chrome.execute_script(SCATTER_CHARTS) if chart["drawn"]]
        )
        joined = WebDriverWait(browser, 60).until(
            lambda chrome: [chart for chart in chrome.execute_script(JOINED) if chart["drawn"] > len(references)]
        )
        visible = WebDriverWait(browser, 60).until(lambda chrome: chrome.execute_script(PICTURE))
        browser.save_screenshot(str(tmp_path / "frontier.png"))
    # The run without privacy has no ε and no point.
    assert joined[0]["points"] == len(SIGMAS)  # one curve, and its reference lines beside it
    assert visible  # without scrolling
    assert charts == [{"x": "privacy/epsilon", "y": "utility/rougeL", "drawn": len(SIGMAS)}]
