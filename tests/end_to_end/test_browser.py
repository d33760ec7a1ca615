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
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support import expected_conditions as expected
    from selenium.webdriver.support.ui import WebDriverWait

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
        wait = WebDriverWait(browser, 60)
        browser.get(f"{ui}/assets/raw/headlines")
        wait.until(
            expected.element_to_be_clickable((By.XPATH, "//button[contains(., 'Materialize')]"))
        ).click()
        wait.until(
            expected.element_to_be_clickable((By.CSS_SELECTOR, "[data-testid='launch-button']"))
        ).click()
        WebDriverWait(browser, 180).until(
            lambda page: (
                _open_runs(page, ui) and "Success" in page.find_element(By.TAG_NAME, "body").text
            )
        )
        browser.get(f"{ui}/assets/raw/headlines?view=overview")
        body = WebDriverWait(browser, 60).until(
            lambda page: (
                (text := page.find_element(By.TAG_NAME, "body").text)
                and "SIMULATED MARKET" in text
                and text
            )
        )
        assert "gate" in body
        assert "volatility-desk" in body
    finally:
        folder = os.environ.get("VOLCAST_SCREENSHOTS")
        if folder:
            browser.save_screenshot(str(Path(folder) / "materialised.png"))
        browser.quit()


def _open_runs(page, ui: str) -> bool:  # type: ignore[no-untyped-def]
    page.get(f"{ui}/runs")
    time.sleep(3)
    return True
