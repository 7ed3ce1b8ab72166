"""Open a page of the service in Chromium, wait for what it shows, and read its console."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from tests.integration.running_service import PATIENCE_S

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
NEEDS_BROWSER = pytest.mark.skipif(not (BROWSER and DRIVER), reason="needs `apt-get install chromium chromium-driver`")
PHONE_WIDTH = 390


@contextmanager
def open_browser(address: str, scheme: str) -> Iterator[WebDriver]:
    """Open an address in a browser with a colour scheme, light or dark."""
    assert BROWSER
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1300,900"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with webdriver.Chrome(options, webdriver.ChromeService(DRIVER)) as browser:
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        browser.get(address)
        yield browser


def browser_log(page: WebDriver) -> list[dict[str, Any]]:
    """Return and forget the lines of the browser's console."""
    lines: list[dict[str, Any]] = page.execute("getLog", {"type": "browser"})["value"]
    return lines


def until(page: WebDriver, selector: str, count: int) -> list[WebElement]:
    WebDriverWait(page, PATIENCE_S).until(lambda _: len(page.find_elements(By.CSS_SELECTOR, selector)) == count)
    return page.find_elements(By.CSS_SELECTOR, selector)


def hold_as_phone(page: WebDriver) -> None:
    """Give the page the size of a phone."""
    phone = {"width": PHONE_WIDTH, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)


def width(page: WebDriver) -> int:
    """Return how wide the page is, with what one has to scroll to."""
    return int(page.execute_script("return document.documentElement.scrollWidth"))
