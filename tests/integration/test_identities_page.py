"""The page of people and their journeys."""

from collections.abc import Iterator

import httpx
import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.support.ui import Select, WebDriverWait

from qaconv.paths import ONNX, TLIFT
from tests.integration.browser import NEEDS_BROWSER, PHONE_WIDTH, browser_log, hold_as_phone, open_browser, until, width
from tests.integration.running_service import MALL, PATIENCE_S, running, write_registered_project
from tests.small_identities import enrolment, tell_colours_apart
from tests.working_folder import working_in

pytestmark = NEEDS_BROWSER


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the address of a service with nine sightings of three people."""
    project = tmp_path_factory.mktemp("project")
    with working_in(project):
        write_registered_project(project, lambda: tell_colours_apart(ONNX, TLIFT))
        with running(project) as (client, _):
            client.post(f"{MALL}/sightings", json=enrolment(0, 9)).raise_for_status()
            yield str(client.base_url)


@pytest.fixture(params=["light", "dark"])
def page(address: str, request: pytest.FixtureRequest) -> Iterator[WebDriver]:
    """Open the page with three people, after an update that the page has begun."""
    httpx.delete(f"{address}{MALL}/identities").raise_for_status()
    with open_browser(f"{address}/identities?target=mall", request.param) as browser:
        says(browser, "updated", "have not been joined to people yet")
        browser.find_element(By.ID, "update").click()
        until(browser, "#people img[src]", 9)
        yield browser
        assert browser_log(browser) == []


def says(page: WebDriver, place: str, words: str) -> None:
    WebDriverWait(page, PATIENCE_S).until(lambda _: words in page.find_element(By.ID, place).text)


def test_a_person_is_chosen_taken_apart_and_joined_again_by_the_keyboard_alone(page: WebDriver) -> None:
    first, *_ = page.find_elements(By.CSS_SELECTOR, "#people button")
    first.send_keys(Keys.ARROW_DOWN)
    page.switch_to.active_element.send_keys(Keys.ENTER)
    crops = until(page, "#visits .crops img[src]", 3)
    assert len(crops) == len(until(page, "#line image", 3))
    says(page, "summary", "3 sightings in 3 visits on 3 cameras")
    person = int(page.find_element(By.ID, "journey-title").text.removeprefix("Person "))
    page.find_elements(By.CSS_SELECTOR, "#visits button")[1].send_keys(Keys.SPACE)
    says(page, "chosen", "1 sighting of 3 chosen")
    page.find_element(By.ID, "split").send_keys(Keys.ENTER)
    says(page, "status", "Taken out: 1 sighting, now person ")
    until(page, "#people button", 4)
    until(page, "#visits .crops img[src]", 2)
    other = page.find_element(By.ID, "status").text.rstrip(".").split()[-1]
    page.find_element(By.ID, "other").send_keys(other, Keys.TAB)
    until(page, "#compared img[src]", 1)
    page.find_element(By.ID, "other").send_keys(Keys.ENTER)
    says(page, "status", f"Person {other} is now part of person {person}.")
    until(page, "#people button", 3)
    until(page, "#visits .crops img[src]", 3)
    assert len(page.find_elements(By.CSS_SELECTOR, "#changes li")) == 2


def test_people_are_filtered_by_camera_time_and_number_of_cameras(page: WebDriver) -> None:
    page.find_element(By.ID, "from").send_keys("800", Keys.TAB)
    until(page, "#people button", 1)
    page.find_element(By.ID, "from").clear()
    page.find_element(By.ID, "from").send_keys(Keys.TAB)
    until(page, "#people button", 3)
    cameras = page.find_element(By.ID, "cameras")
    cameras.clear()
    cameras.send_keys("4", Keys.TAB)
    until(page, "#people button", 0)
    says(page, "total", "0 people")
    cameras.clear()
    cameras.send_keys("3", Keys.TAB)
    Select(page.find_element(By.ID, "camera")).select_by_value("1")
    Select(page.find_element(By.ID, "order")).select_by_value("certainty")
    until(page, "#people button", 3)


def test_nothing_is_wider_than_a_phone(page: WebDriver) -> None:
    hold_as_phone(page)
    page.find_element(By.CSS_SELECTOR, "#people button").click()
    until(page, "#visits .crops img[src]", 3)
    assert width(page) <= PHONE_WIDTH


def test_the_page_shows_why_a_merge_is_refused(page: WebDriver) -> None:
    page.find_element(By.CSS_SELECTOR, "#people button").click()
    until(page, "#visits .crops img[src]", 3)
    page.find_element(By.ID, "other").send_keys("999", Keys.ENTER)
    says(page, "status", "mall has no identity 999")
    browser_log(page)  # drops what Chromium logs: the 404
