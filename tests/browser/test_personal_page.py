"""A person opens their link in a browser, sees what they agreed to, and opts out by keyboard.

Needs chromium and chromedriver (Debian: apt-get install chromium-driver); skipped without them.
"""

from __future__ import annotations

import shutil
import socket
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Thread

import pytest
import uvicorn
from selenium.webdriver import Chrome, ChromeOptions, Keys
from selenium.webdriver.chrome.service import Service as Driver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from dp_train.consent.events import AgeBand, ConsentEvent, EntityRole, EventState, Purpose
from dp_train.consent.policy import WithdrawalPolicy
from dp_train.consent.principals import PrincipalKey
from dp_train.consent.signing import SigningKey
from dp_train.consent.store import ConsentStore
from dp_train.conversations import ContentKind
from dp_train.store.database import Database
from dp_train.web.app import make_app
from dp_train.web.service import Service
from dp_train.web.tokens import Kind, Signer

pytestmark = pytest.mark.browser

KEY = PrincipalKey(b"the key of the tests, not a secret")
EVIL = "<script>document.title='taken'</script>"


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Chrome]:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if not (chromium and driver):
        pytest.skip("no chromium and chromedriver on PATH: apt-get install chromium-driver")
    options = ChromeOptions()
    options.binary_location = chromium
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"):
        options.add_argument(flag)
    options.add_argument(f"--user-data-dir={tmp_path / 'profile'}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    chrome = Chrome(options=options, service=Driver(driver))
    yield chrome
    chrome.quit()


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    monkeypatch.chdir(tmp_path)
    database = Database(f"sqlite:///{tmp_path / 'dp_train.db'}")
    signing = SigningKey.open(tmp_path / "signing.key")
    store, when = ConsentStore(database), datetime.now(UTC) - timedelta(days=1)
    store.append(
        ConsentEvent(
            record_id="r1",
            seq=0,
            pii_principal_id=KEY.pseudonym("ann"),
            org_id="acme",
            entity_role=EntityRole.SELF,
            purpose=frozenset({Purpose.TRAIN_CHAT_COMPOSE}),
            content_kind=frozenset({ContentKind.CHAT}),
            event_state=EventState.GIVEN,
            event_time=when,
            recorded_time=when,
            notice_id=EVIL,
            notice_version=1,
            age_band=AgeBand.ADULT,
        )
    )
    yield Service(url=database.url, store=store, key=KEY, signing=signing, policy=WithdrawalPolicy(rules=()))
    database.close()


def test_a_person_sees_their_consent_and_opts_out_by_keyboard(browser: Chrome, service: Service) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address, signer = f"http://127.0.0.1:{port}", Signer("a token of thirty-two characters or more")
    app = make_app(service, signer, address=address, hosts=frozenset({"127.0.0.1"}))
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="error", access_log=False))
    thread = Thread(target=server.run, daemon=True)
    thread.start()
    try:
        WebDriverWait(browser, 30).until(lambda _: server.started)
        link = signer.sign(Kind.LINK, KEY.pseudonym("ann"), int(time.time()) + 60)
        browser.get(f"{address}/me?link={link}")
        assert browser.current_url == f"{address}/me"  # the link is in no address bar and no history
        assert browser.title == "Your consent"
        assert EVIL in browser.find_element(By.TAG_NAME, "main").text
        assert browser.find_element(By.TAG_NAME, "html").get_attribute("lang") == "en"
        button = browser.find_element(By.TAG_NAME, "button")
        assert button.value_of_css_property("background-color") != "rgba(0, 0, 0, 0)"  # the policy lets the style in
        assert browser.execute_script("return document.cookie") == ""
        button.send_keys(Keys.ENTER)
        WebDriverWait(browser, 30).until(lambda chrome: "you opted out" in chrome.page_source)
        assert browser.find_elements(By.TAG_NAME, "button") == []
        said = service.store.snapshot(as_of=datetime.now(UTC), key=KEY)
        assert said.says(KEY.pseudonym("ann"), Purpose.TRAIN_CHAT_COMPOSE).value == "withdrawn"
        problems = [line["message"] for line in browser.get_log("browser") if "favicon" not in line["message"]]
        assert problems == []
    finally:
        server.should_exit = True
        thread.join(10)
