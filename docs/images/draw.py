"""Draw README's pictures of page and report from the demo's outputs: `python -m docs.images.draw`.

It needs Chromium: `apt-get install chromium chromium-driver`.
"""

import base64
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image
from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.support.ui import WebDriverWait

from benchmarks.serve import TARGET, files, place_model, service
from qaconv.paths import REPORT
from qaconv.serving.commands import enrol

FOLDER = Path(__file__).parent
QUERY = 40  # number of the query to search with, in the manifest's order
TALLEST = 1320  # height of the narrow page in pixels
WIDE = 890  # width of the report in pixels, with its margins
COLOURS = 256
TIMEOUT_S = 60
CAMERAS = 5  # on which a person is seen whose journey is shown
UPDATE_S = 300  # until all sightings are joined to people


def main() -> None:
    """Write the pictures of the search page, of the page of people, and of the report into this folder."""
    with TemporaryDirectory() as scratch:
        state = Path(scratch) / "galleries"
        place_model(state)
        with service(state) as (url, _):
            enrol(TARGET, url)
            for name, width, height, scheme in (("page", 1320, 757, "light"), ("page_phone", 390, TALLEST, "dark")):
                with browser(width, height, scheme) as page:
                    page.get(url)
                    search(page, Path(scratch) / "query.jpg")
                    save(page.get_screenshot_as_png(), FOLDER / f"{name}.png")
            for name, width, height, scheme in (
                ("identities", 1320, 857, "light"),
                ("identities_phone", 390, TALLEST, "dark"),
            ):
                with browser(width, height, scheme) as page:
                    page.get(f"{url}/identities?target={TARGET}")
                    show_journey(page)
                    save(page.get_screenshot_as_png(), FOLDER / f"{name}.png")
    with browser(900, 900, "light") as page:
        page.get((REPORT / "report.html").resolve().as_uri())
        save(near_miss(page), FOLDER / "report.png")


@contextmanager
def browser(width: int, height: int, scheme: str) -> Iterator[WebDriver]:
    """Open headless Chromium with a window of this size, in a light or dark colour scheme."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--hide-scrollbars"):
        options.add_argument(argument)
    with webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver"))) as page:
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        yield page


def search(page: WebDriver, crop: Path) -> None:
    """Search for one of the queries, and show why the first answer matches."""
    image, camid, time_s = files("query")[QUERY]
    crop.write_bytes(image)
    wait = WebDriverWait(page, TIMEOUT_S)
    wait.until(lambda _: page.find_elements(By.CSS_SELECTOR, "#stored img[src]"))
    page.find_element(By.ID, "file").send_keys(str(crop))
    button = page.find_element(By.ID, "search")
    wait.until(lambda _: button.is_enabled())
    for name, value in (("camera", camid), ("time", round(time_s, 2))):
        page.execute_script("document.getElementById(arguments[0]).value = arguments[1]", name, str(value))
    page.execute_script("document.getElementById('time').dispatchEvent(new Event('input'))")
    button.click()
    wait.until(lambda _: len(page.find_elements(By.CSS_SELECTOR, "#results img[src]")) == 20)
    page.find_element(By.CSS_SELECTOR, "#results button").click()
    wait.until(lambda _: page.find_elements(By.CSS_SELECTOR, "#why line"))
    page.execute_script("document.activeElement.blur(); scrollTo(0, 0)")


def show_journey(page: WebDriver) -> None:
    """Let sightings be joined to people, and show the first person on at least CAMERAS cameras."""
    wait = WebDriverWait(page, UPDATE_S, ignored_exceptions=[StaleElementReferenceException])
    page.execute_script("document.getElementById('update').click()")
    wait.until(lambda _: page.find_elements(By.CSS_SELECTOR, "#people img[src]"))
    cameras = page.find_element(By.ID, "cameras")
    cameras.clear()
    cameras.send_keys(str(CAMERAS), Keys.TAB)
    wait.until(lambda _: f"{CAMERAS} cameras" in page.find_element(By.CSS_SELECTOR, "#people button").text)
    page.execute_script("document.querySelector('#people button').click()")
    wait.until(lambda _: page.find_elements(By.CSS_SELECTOR, "#line image"))
    wait.until(lambda _: page.find_elements(By.CSS_SELECTOR, "#visits .crops img[src]"))
    page.execute_script("document.activeElement.blur(); scrollTo(0, 0)")


def near_miss(page: WebDriver) -> bytes:
    """Return a picture of the target's first near miss, and of the explanation of its first answer."""
    section = page.find_element(By.XPATH, f"//section[h2[@id='{TARGET}']]")
    shown = section.find_elements(
        By.XPATH, "(.//h4[starts-with(., 'Near miss')])[1] | (.//figure[h4[contains(., 'Not a match')]])[1]"
    )
    listed = section.find_element(By.XPATH, "(.//h4[starts-with(., 'Near miss')])[1]/following-sibling::div[1]")
    boxes = [part.rect for part in (shown[0], listed, shown[1])]
    pieces = [
        _clip(page, min(box["x"] for box in part), part[0]["y"], part[-1]["y"] + part[-1]["height"])
        for part in (boxes[:2], boxes[2:])
    ]
    whole = Image.new("RGB", (WIDE, sum(piece.height for piece in pieces)), "white")
    top = 0
    for piece in pieces:
        whole.paste(piece, (0, top))
        top += piece.height
    file = BytesIO()
    whole.save(file, "PNG")
    return file.getvalue()


def _clip(page: WebDriver, left: float, top: float, bottom: float) -> Image.Image:
    clip = {"x": left - 10, "y": top - 5, "width": WIDE, "height": bottom - top + 10, "scale": 1}
    screenshot = page.execute_cdp_cmd("Page.captureScreenshot", {"clip": clip, "captureBeyondViewport": True})
    return Image.open(BytesIO(base64.b64decode(screenshot["data"]))).convert("RGB")


def save(png: bytes, path: Path) -> None:
    """Write a PNG with a palette, which takes a third of the bytes and shows drawn pictures without visible loss."""
    Image.open(BytesIO(png)).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)


if __name__ == "__main__":
    main()
