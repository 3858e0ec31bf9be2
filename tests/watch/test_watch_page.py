"""The live page in real Chromium: numbers, news, keys, what a user's text cannot do, phone, light and dark."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from dataclasses import replace
from urllib.parse import urlsplit

import pytest
from browser import IS_THERE, emulate, open_chromium

from distbp.watch import RunFeed, RunState, Watch
from distbp.watch.server import serve
from distbp.watch.state import ToldEvent

pytest.importorskip("selenium.webdriver", reason="needs selenium, from the extra distbp[test]")
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

pytestmark = pytest.mark.slow

in_chromium = pytest.mark.skipif(not IS_THERE, reason="needs Debian's packages chromium and chromium-driver")

EVIL = "<img src=x onerror=\"document.body.id='evil'\"></script><script>document.body.id='evil'</script>"


class Scripted:
    """A feed that tells what it is told to tell."""

    interval_s = 0.05

    def __init__(self, state: RunState):
        self.state = state
        self.name = state.name

    def look(self) -> RunState:
        return self.state


@pytest.fixture
def feeds(finished) -> list[Scripted]:
    """A run that is finished, and one half way."""
    done = RunFeed(finished.run).look()
    half = replace(done, name="half", state="running", digest=None, num_steps=138, seconds_left=75.0)
    return [Scripted(done), Scripted(half)]


@pytest.fixture
def url(feeds) -> Iterator[str]:
    with Watch(feeds) as watch, serve(watch, 0) as url:
        yield url


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    with open_chromium(tmp_path_factory.mktemp("chromium")) as browser:
        yield browser


@pytest.fixture
def browser(chromium, url):
    emulate(chromium, 1180, "light")
    open_page(chromium, url)
    yield chromium
    chromium.get("about:blank")  # before the server ends, for the page would go on asking it
    complaints(chromium)  # and forget what was said of this one


def open_page(browser, url: str) -> None:
    browser.get(url)
    WebDriverWait(browser, 30).until(lambda b: b.execute_script("return document.documentElement.dataset.ready"))


def text(browser, selector: str) -> str:
    return browser.find_element(By.CSS_SELECTOR, selector).text


def await_text(browser, selector: str, expected: str) -> None:
    WebDriverWait(browser, 30).until(lambda _: expected in text(browser, selector))


def complaints(browser) -> list[str]:
    return [entry["message"] for entry in browser.get_log("browser")]


@in_chromium
def test_the_page_shows_the_numbers_of_the_run_without_a_complaint(browser, finished):
    assert complaints(browser) == []
    assert text(browser, "#name") == "finished"
    assert text(browser, "#digest") == f"digest {finished.digest}"
    tiles = text(browser, "#tiles")
    assert "steps done of 69; epoch 3 of 3" in tiles
    assert f"{finished.validation_accuracy:.4f}" in tiles
    lines = browser.find_elements(By.CSS_SELECTOR, "#plots polyline")
    assert [line.get_attribute("data-points") for line in lines] == ["69", "3", "3"]
    assert text(browser, "#happenings tr td:last-child") == "finished"  # the newest first
    assert browser.title == "100 % finished, finished"


@in_chromium
def test_news_are_shown_without_a_reload(browser, feeds):
    feeds[0].state = replace(feeds[0].state, state="diverged", detail="the loss is nan")
    await_text(browser, "#state", "diverged")
    assert text(browser, "#detail") == "the loss is nan"


@in_chromium
def test_another_run_is_chosen_by_click_and_by_keys(browser):
    buttons = browser.find_elements(By.CSS_SELECTOR, ".runs button")
    buttons[1].click()
    assert text(browser, "#name") == "half"
    assert "1:15" in text(browser, "#tiles")
    assert buttons[1].get_attribute("aria-pressed") == "true"
    for key, name in ((Keys.ARROW_RIGHT, "finished"), (Keys.ARROW_LEFT, "half"), ("1", "finished"), ("9", "finished")):
        ActionChains(browser).send_keys(key).perform()
        assert text(browser, "#name") == name


@in_chromium
def test_texts_of_a_user_are_shown_as_text(browser, feeds):
    happened = replace(feeds[0].state.happened, happenings=(ToldEvent(None, None, EVIL, True),), members=(EVIL,))
    feeds[0].state = replace(
        feeds[0].state, name=EVIL, url=EVIL, detail=EVIL, note=EVIL, digest=EVIL, happened=happened
    )
    await_text(browser, "#name", EVIL)
    for selector in ("#url", "#detail", "#note", "#digest", "#workers", "#happenings", ".runs button"):
        assert EVIL in text(browser, selector)
    assert browser.find_element(By.TAG_NAME, "body").get_attribute("id") == ""
    assert browser.find_elements(By.CSS_SELECTOR, "img, body script:not([src])") == []
    assert complaints(browser) == []


@in_chromium
def test_the_policy_lets_no_other_script_run(browser):
    script = "const s = document.createElement('script'); s.textContent = arguments[0]; document.body.append(s)"
    browser.execute_script(script, "document.body.id = 'evil'")
    assert browser.find_element(By.TAG_NAME, "body").get_attribute("id") == ""
    assert any("Content Security Policy" in complaint for complaint in complaints(browser))


@in_chromium
def test_the_page_says_when_nobody_answers_any_more_and_goes_on_when_somebody_does(chromium, feeds):
    with Watch(feeds) as watch:
        with serve(watch, 0) as url:
            open_page(chromium, url)
        await_text(chromium, "#since", "does not answer any more")
        assert text(chromium, "#name") == "finished"
        with serve(watch, urlsplit(url).port):
            await_text(chromium, "#since", "live, ")
    chromium.get_log("browser")  # of the refused connections


@in_chromium
@pytest.mark.parametrize("width", [360, 768])
def test_nothing_sticks_out_on_a_narrow_screen(browser, url, feeds, width):
    feeds[0].state = replace(feeds[0].state, detail="long " * 40 + "x" * 200, url="s3://bucket/" + "y" * 150)
    emulate(browser, width, "light")
    open_page(browser, url)
    await_text(browser, "#detail", "xxx")
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width


@in_chromium
def test_light_and_dark_follow_the_system(browser):
    def lightness() -> int:
        color = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
        return sum(map(int, color[4:-1].split(",")))

    assert lightness() > 700
    emulate(browser, 1180, "dark")
    assert lightness() < 100


def ask(url: str, path: str, host: str | None = None) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
    connection.request("GET", path, headers={} if host is None else {"Host": host})
    return connection.getresponse()


def test_the_states_are_json_that_any_program_reads(url, feeds):
    feeds[1].state = replace(feeds[1].state, seconds_left=float("nan"))
    runs = json.loads(ask(url, "/state.json").read(), parse_constant=pytest.fail)["runs"]
    assert [run["name"] for run in runs] == ["finished", "half"]


def test_sites_that_point_their_name_to_this_machine_get_nothing(url):
    for host in ("evil.example", "127.0.0.1.evil.example", "evil.example:80", ""):
        answer = ask(url, "/state.json", host)
        assert answer.status == 403
        assert answer.read() == b"this page is for the machine it runs on\n"
    assert ask(url, "/state.json", "localhost:1").status == 200


def test_there_is_nothing_but_the_page(url):
    for path in ("/../server.py", "/page.html.j2", "/etc/passwd", "/page.js/"):
        assert ask(url, path).status == 404
    assert urlsplit(url).hostname == "127.0.0.1"
