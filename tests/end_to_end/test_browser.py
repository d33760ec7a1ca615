"""The Dagster UI as a person uses it: open it, materialise a Dagster asset, see it succeed."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestration.settings import PROJECT_ROOT
from tests.end_to_end.homes import Home

CHROMIUM = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
DRIVER = shutil.which("chromedriver")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        not CHROMIUM or not DRIVER, reason="no Chromium with chromedriver installed"
    ),
]


@pytest.fixture
def ui(tmp_path: Path) -> Iterator[str]:
    """`volcast dev` on a free port, ended with all its children."""
    home = Home(tmp_path / "home")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = (tmp_path / "dev.log").open("w+")
    process = subprocess.Popen(
        [sys.executable, "-m", "orchestration.cli", "dev", "--port", str(port)],
        env=home.variables,
        cwd=PROJECT_ROOT,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(f"{address}/server_info", timeout=2).read()
                break
            except OSError:
                assert process.poll() is None, Path(log.name).read_text()
                assert time.monotonic() < deadline, Path(log.name).read_text()
                time.sleep(0.5)
        yield address
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
        log.close()


def test_an_asset_is_materialised_from_the_ui(ui: str, tmp_path: Path) -> None:
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--no-first-run",
        "--window-size=1500,1000",
        f"--user-data-dir={tmp_path / 'profile'}",
    ):
        options.add_argument(argument)
    browser = webdriver.Chrome(
        options=options, service=webdriver.ChromeService(executable_path=str(DRIVER))
    )
    try:
        browser.get(f"{ui}/assets/raw/headlines")
        _launch(browser)
        _wait_for_text(browser, f"{ui}/runs", "Success", seconds=180)
        page = _wait_for_text(
            browser, f"{ui}/assets/raw/headlines?view=overview", "SIMULATED MARKET"
        )
        assert "volatility-desk" in page
        checks = _wait_for_text(browser, f"{ui}/assets/raw/headlines?view=checks", "gate")
        assert "Passed" in checks
    finally:
        folder = os.environ.get("VOLCAST_SCREENSHOTS")
        if folder:
            browser.save_screenshot(str(Path(folder) / "materialised.png"))
        browser.quit()


def _launch(browser: Any) -> None:
    """Press Materialize, choose the latest day, launch.

    The page draws itself anew while it loads, so a press may be lost: what is furthest along is pressed until the dialog is done.
    """
    from selenium.common.exceptions import WebDriverException
    from selenium.webdriver.common.by import By

    def press(text: str) -> bool:
        try:
            browser.find_element(
                By.XPATH, f"//button[starts-with(normalize-space(.), '{text}')]"
            ).click()
        except WebDriverException:
            return False
        return True

    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if press("Latest"):
            time.sleep(2)
            if press("Launch"):
                time.sleep(5)  # leaving the page at once would take the request with it
                return
        press("Materialize")
        time.sleep(3)
    buttons = [item.text for item in browser.find_elements(By.TAG_NAME, "button")]
    raise AssertionError(f"nothing was launched; buttons on the page: {buttons}")


def _wait_for_text(browser: Any, address: str, text: str, seconds: float = 60) -> str:
    """The page's text once it holds ``text``; the page is loaded again every few seconds."""
    from selenium.webdriver.common.by import By

    deadline = time.monotonic() + seconds
    while True:
        browser.get(address)
        for _ in range(8):
            time.sleep(0.5)
            page = str(browser.find_element(By.TAG_NAME, "body").text)
            if text in page:
                return page
        assert time.monotonic() < deadline, f"{text!r} never came on {address}:\n{page[-1500:]}"
