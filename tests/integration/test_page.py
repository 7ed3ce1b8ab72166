import base64
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.support.expected_conditions import url_contains
from selenium.webdriver.support.ui import Select, WebDriverWait

from tests.integration.browser import NEEDS_BROWSER, PHONE_WIDTH, browser_log, hold_as_phone, open_browser, until, width
from tests.integration.running_service import MALL, PATIENCE_S, running, write_registered_project
from tests.integration.test_service_process import image, sightings
from tests.working_folder import working_in

pytestmark = NEEDS_BROWSER

TRACKED = "station"  # target whose sightings have tracks


@pytest.fixture(scope="module")
def addresses(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Return addresses of a leader with a few sightings at the mall and a track at the station, and of a follower."""
    project = tmp_path_factory.mktemp("project")
    with working_in(project):
        write_registered_project(project)
        with running(project) as (client, _):
            client.post(f"{MALL}/sightings", json=sightings(0, 6)).raise_for_status()
            tracked = [{"image": image(row), "camid": 0, "track": "walk 1" if row < 3 else None} for row in range(4)]
            client.post(f"/v1/targets/{TRACKED}/sightings", json={"sightings": tracked}).raise_for_status()
            leader = str(client.base_url)
            with running(project, "--state", "copy", "--follow", leader) as (client, _):
                yield {"leader": leader, "follower": str(client.base_url)}


@pytest.fixture(params=["light-leader", "dark-leader", "light-follower"])
def page(addresses: dict[str, str], request: pytest.FixtureRequest) -> Iterator[WebDriver]:
    scheme, machine = request.param.split("-")
    with open_browser(addresses[machine], scheme) as browser:
        until(browser, "#stored img[src]", 6)
        yield browser
        assert browser_log(browser) == []


def test_searching_for_a_stored_sighting_and_explaining_a_result_needs_the_keyboard_alone(page: WebDriver) -> None:
    page.find_element(By.CSS_SELECTOR, "#stored button").send_keys(Keys.ARROW_RIGHT)
    page.switch_to.active_element.send_keys(Keys.ENTER)
    first, *_ = until(page, "#results button", 5)
    first.send_keys(Keys.ARROW_RIGHT)
    page.switch_to.active_element.send_keys(Keys.ENTER)
    until(page, "#why line", 4)  # two places an image, both ways
    assert "Rank 2" in (page.switch_to.active_element.get_attribute("aria-label") or "")
    assert "evidence for one person" in page.find_element(By.ID, "why-text").text


def test_the_slider_decides_which_results_of_a_file_are_matches(page: WebDriver, tmp_path: Path) -> None:
    (tmp_path / "crop.png").write_bytes(base64.b64decode(image(2)))
    page.find_element(By.ID, "file").send_keys(str(tmp_path / "crop.png"))
    search = page.find_element(By.ID, "search")
    WebDriverWait(page, PATIENCE_S).until(lambda _: search.is_enabled())
    search.click()
    until(page, "#results img[src]", 6)
    slider = page.find_element(By.ID, "threshold")
    slider.send_keys(Keys.HOME)
    assert len(page.find_elements(By.CSS_SELECTOR, "#results .match")) == 6
    assert len(page.find_elements(By.CSS_SELECTOR, "#line .dot.match")) == 6


def test_several_files_are_one_query_and_a_track_is_one_result(page: WebDriver, tmp_path: Path) -> None:
    Select(page.find_element(By.ID, "target")).select_by_value(TRACKED)
    until(page, "#stored img[src]", 4)
    for seed in (7, 8):
        (tmp_path / f"{seed}.png").write_bytes(base64.b64decode(image(seed)))
    page.find_element(By.ID, "file").send_keys("\n".join(str(tmp_path / f"{seed}.png") for seed in (7, 8)))
    until(page, "#query-images img", 2)
    page.find_element(By.ID, "search").click()
    results = until(page, "#results button", 2)
    assert sum("track walk 1, 3 sightings" in result.text for result in results) == 1
    results[0].click()
    until(page, "#why line", 4)
    assert "Compared with the query's first crop." in page.find_element(By.ID, "why-text").text


def test_the_page_says_what_its_probabilities_hold_for(page: WebDriver) -> None:
    assert "at even odds" in page.find_element(By.ID, "probability-from").text
    assert not page.find_element(By.ID, "even-odds").is_enabled()


def test_the_pages_link_to_each_other_with_the_target(page: WebDriver) -> None:
    Select(page.find_element(By.ID, "target")).select_by_value(TRACKED)
    until(page, "#stored img[src]", 4)
    for words, place in (("Review pairs", "/review"), ("People and journeys", "/identities"), ("Search", "/")):
        page.find_element(By.LINK_TEXT, words).click()
        WebDriverWait(page, PATIENCE_S).until(url_contains(f"{place}?target={TRACKED}"))
        until(page, f"#target option[value='{TRACKED}']", 1)
        assert Select(page.find_element(By.ID, "target")).first_selected_option.get_attribute("value") == TRACKED


def test_nothing_is_wider_than_a_phone(page: WebDriver) -> None:
    hold_as_phone(page)
    page.find_element(By.CSS_SELECTOR, "#stored button").click()
    until(page, "#results button", 5)
    assert width(page) <= PHONE_WIDTH


def caption(page: WebDriver) -> str:
    return " ".join(page.find_element(By.ID, f"{side}-caption").text for side in ("first", "second"))


def press(page: WebDriver, key: str) -> str:
    """Press a key on the page of reviews, and return what the pair that is shown then is called."""
    before = caption(page)
    page.switch_to.active_element.send_keys(key)
    WebDriverWait(page, PATIENCE_S).until(lambda _: caption(page) != before)
    return caption(page)


def test_pairs_are_reviewed_by_the_keyboard_alone(
    page: WebDriver, addresses: dict[str, str], request: pytest.FixtureRequest
) -> None:
    reviewer = request.node.callspec.params["page"]  # each reviews under a name of its own
    address = addresses[reviewer.split("-")[1]]
    page.get(f"{address}/review?target=mall")
    until(page, "#pair img[src]", 2)
    name = page.find_element(By.ID, "reviewer")
    name.send_keys(reviewer, Keys.TAB)
    WebDriverWait(page, PATIENCE_S).until(lambda _: not page.find_element(By.ID, "status").text)
    page.find_element(By.ID, "pair-title").click()
    first = caption(page)
    press(page, "y")
    assert press(page, Keys.BACKSPACE) == first
    assert page.find_element(By.CSS_SELECTOR, "#answers [aria-pressed=true]").text.startswith("Yes")
    press(page, "n")
    press(page, "3")
    with httpx.Client(base_url=address) as client:

        def answers() -> list[str]:
            stored = client.get(f"{MALL}/reviews").json()["answers"]
            return [answer["answer"] for answer in stored if answer["reviewer"] == reviewer]

        WebDriverWait(page, PATIENCE_S).until(lambda _: answers() == ["different", "cannot tell"])
    WebDriverWait(page, PATIENCE_S).until(lambda _: page.find_element(By.ID, "precision-reviewed").text != "")
    hold_as_phone(page)
    assert width(page) <= PHONE_WIDTH


def test_a_result_is_judged_where_its_query_is_stored(page: WebDriver) -> None:
    page.find_element(By.CSS_SELECTOR, "#stored button").click()
    until(page, "#results button", 5)[0].click()
    until(page, "#why line", 4)
    page.find_element(By.CSS_SELECTOR, "#verdict [data-answer=different]").click()
    WebDriverWait(page, PATIENCE_S).until(lambda _: "is wrong." in page.find_element(By.ID, "status").text)
    assert len(page.find_elements(By.CSS_SELECTOR, "#verdict [aria-pressed=true]")) == 1


def test_the_page_shows_why_a_file_is_rejected(page: WebDriver, tmp_path: Path) -> None:
    (tmp_path / "crop.png").write_bytes(b"no image")
    page.find_element(By.ID, "file").send_keys(str(tmp_path / "crop.png"))
    search = page.find_element(By.ID, "search")
    WebDriverWait(page, PATIENCE_S).until(lambda _: search.is_enabled())
    search.click()
    WebDriverWait(page, PATIENCE_S).until(lambda _: "is not an image" in page.find_element(By.ID, "status").text)
    browser_log(page)  # drops what Chromium logs: the 422, and that the file is no image
