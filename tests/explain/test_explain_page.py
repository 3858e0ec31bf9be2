"""The page in real Chromium: what it shows against NumPy's numbers, clicks, keys, labels, phone, light and dark."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from distbp import Explanation, Placement, Recipe, explain_run, train
from distbp.explain.page import choose_page_writer

webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium, from the extra distbp[test]")
from selenium.webdriver.common.action_chains import ActionChains  # noqa: E402 - only if it is there
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import WebDriverWait  # noqa: E402

CHROMIUM, DRIVER = (Path("/usr/bin") / name for name in ("chromium", "chromedriver"))
ARGUMENTS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --force-prefers-reduced-motion --window-size=1180,900"
)
CLOSE = {"rel": 1e-5, "abs": 1e-9}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (CHROMIUM.exists() and DRIVER.exists()), reason="needs Debian's packages chromium and chromium-driver"
    ),
]


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    profile, programs = tmp_path_factory.mktemp("chromium"), tmp_path_factory.mktemp("programs")
    options = webdriver.ChromeOptions()
    options.binary_location = str(write_mortal(programs, CHROMIUM))
    for argument in (*ARGUMENTS.split(), f"--user-data-dir={profile}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options, webdriver.ChromeService(str(write_mortal(programs, DRIVER))))
    browser.set_page_load_timeout(30)
    yield browser
    browser.quit()
    shutil.rmtree(profile, ignore_errors=True)


def write_mortal(folder: Path, program: Path) -> Path:
    """Return a script that runs a program which the kernel kills when its parent dies, even by SIGKILL."""
    script = folder / program.name
    script.write_text(f'#!/bin/sh\nexec setpriv --pdeathsig KILL {program} "$@"\n')
    script.chmod(0o755)
    return script


@pytest.fixture(scope="module")
def explanation(tmp_path_factory: pytest.TempPathFactory) -> Explanation:
    """An example of the digits, which a 64-20-18-10 network half trained on them gets wrong."""
    recipe = Recipe.model_validate({"model": {"hidden": [20, 18]}, "epochs": 1, "optimizer": {"learning_rate": 0.02}})
    run = train(recipe, Placement(storage=str(tmp_path_factory.mktemp("page"))), name="digits").run
    first = explain_run(run)
    return explain_run(run, int(first.pulls.indices[first.pulls.costliest(20)[-1]]))


@pytest.fixture(scope="module")
def page(explanation: Explanation, tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_page(explanation, tmp_path_factory.mktemp("html") / "page.html")


def write_page(explanation: Explanation, path: Path) -> str:
    choose_page_writer(str(path))(explanation)
    return path.as_uri()


@pytest.fixture
def browser(chromium: webdriver.Chrome, page: str) -> webdriver.Chrome:
    """The browser with the page freshly opened in a window of a desktop."""
    emulate(chromium, 1180, "light")
    open_page(chromium, page)
    return chromium


def emulate(browser: webdriver.Chrome, width: int, scheme: str) -> None:
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def open_page(browser: webdriver.Chrome, page: str) -> None:
    browser.get(page)
    assert browser.execute_script("return document.documentElement.dataset.ready"), complaints(browser)


def complaints(browser: webdriver.Chrome) -> list[str]:
    return [entry["message"] for entry in browser.get_log("browser")]


def values(browser: webdriver.Chrome, selector: str, key: str = "") -> dict[str, float] | list[float]:
    """Return the numbers of all elements that match, by the attribute `key` or in order."""
    script = (
        "return [...document.querySelectorAll(arguments[0])].map(e => [e.getAttribute(arguments[1]), +e.dataset.value])"
    )
    found = browser.execute_script(script, selector, key)
    return dict(found) if key else [value for _, value in found]


def drawn_in(browser: webdriver.Chrome, layer: int) -> np.ndarray:
    return np.array(browser.execute_script("return data.layers[arguments[0]].drawn", layer))


def text(browser: webdriver.Chrome, selector: str) -> str:
    return browser.find_element(By.CSS_SELECTOR, selector).text


def click(browser: webdriver.Chrome, selector: str) -> None:
    element = browser.find_element(By.CSS_SELECTOR, selector)
    browser.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", element)
    element.click()


def press(browser: webdriver.Chrome, *keys: str) -> None:
    ActionChains(browser).send_keys(*keys).perform()


def expect(actual, expected) -> None:
    assert list(np.ravel(actual)) == pytest.approx(np.ravel(expected).tolist(), **CLOSE)


def test_the_page_opens_without_a_complaint_and_asks_nobody_for_anything(browser):
    assert complaints(browser) == []
    assert browser.execute_script("return performance.getEntriesByType('resource').length") == 0


def test_the_page_of_a_784_128_64_10_network_gets_ready_without_a_complaint(chromium, large_page):
    emulate(chromium, 1180, "light")
    open_page(chromium, large_page.as_uri())
    assert complaints(chromium) == []
    assert "16 of 128 in layer 1, 16 of 64 in layer 2" in text(chromium, "#network-note")


@pytest.mark.parametrize("choice", [0, 1, 4])
def test_the_chosen_example_is_shown_with_its_numbers(browser, explanation, choice):
    click(browser, f".pick:nth-child({choice + 1})")
    pick = browser.find_element(By.CSS_SELECTOR, ".pick[aria-checked=true]")
    example = explanation.view(int(pick.get_attribute("data-index")))
    assert text(browser, ".big").startswith(f"The network says {example.predicted}, ")
    expect(values(browser, "td.says"), example.outputs)
    expect(values(browser, "td.nudge"), example.nudges[-1])
    facts = values(browser, "[data-fact]", "data-fact")
    assert facts["cost"] == pytest.approx(example.cost, **CLOSE)
    assert facts["average"] == pytest.approx(explanation.pulls.cost, **CLOSE)
    pull = explanation.pull(example.index)
    assert facts["share"] == pytest.approx(pull.shares[0] * len(explanation.pulls.indices), **CLOSE)
    for layer in (1, 2, 3):
        nodes = values(browser, f".node[data-layer='{layer}']")
        expect(nodes, example.activations[layer][drawn_in(browser, layer)])


def test_wishes_are_shown_step_by_step_by_buttons_and_keys(browser, explanation):
    example, wanted = explanation.example, int(explanation.example.wanted.argmax())
    assert not browser.find_element(By.ID, "back").is_enabled()
    assert values(browser, ".arrow[data-arrow]") == []
    click(browser, "#next")
    assert text(browser, "#stage-title") == "How wrong is it?"
    expect(arrows(browser, 3), shown_arrows(example.nudges[3]))
    press(browser, Keys.ARROW_RIGHT)
    assert text(browser, "#stage-title") == f"What output “{wanted}” alone asks of layer 2"
    expect(arrows(browser, 2), shown_arrows(example.wishes(3)[wanted, drawn_in(browser, 2)]))
    press(browser, "n")
    assert text(browser, "#stage-title") == "All outputs speak, and their wishes add up"
    expect(arrows(browser, 2), shown_arrows(example.nudges[2][drawn_in(browser, 2)]))
    assert edges(browser, 3) == pytest.approx(shown_edges(example.wishes(3)[:, drawn_in(browser, 2)]), **CLOSE)
    press(browser, Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert text(browser, "#stage-title") == "What every weight is asked"
    assert not browser.find_element(By.ID, "next").is_enabled()
    places = np.ix_(drawn_in(browser, 2), drawn_in(browser, 1))
    assert edges(browser, 2) == pytest.approx(shown_edges(example.weight_nudges(2)[places]), **CLOSE)
    assert "What every weight is asked" in browser.find_element(By.ID, "live").get_property("textContent")
    press(browser, Keys.ARROW_LEFT)
    press(browser, "p")
    assert text(browser, "#stage-title") == "The same again, one layer back: what is wanted of layer 1"
    click(browser, "#back")
    assert text(browser, "#stage-title") == "All outputs speak, and their wishes add up"
    click(browser, "#dots li:first-child button")
    assert text(browser, "#stage-title") == "Forward first"


def arrows(browser: webdriver.Chrome, layer: int) -> list[float]:
    return values(browser, f".arrow[data-arrow='{layer}']")


def shown_arrows(wishes: np.ndarray) -> list[float]:
    return [wish for wish in wishes if abs(wish) >= 0.01 * np.abs(wishes).max()]


def edges(browser: webdriver.Chrome, layer: int) -> dict[str, float]:
    found = values(browser, ".edge[data-edge]", "data-edge")
    return {key[2:]: value for key, value in found.items() if key.startswith(f"{layer}-")}


def shown_edges(wishes: np.ndarray) -> dict[str, float]:
    least = 0.02 * np.abs(wishes).max()
    return {f"{j}-{k}": float(wish) for (j, k), wish in np.ndenumerate(wishes) if abs(wish) >= least}


def test_a_neuron_is_chosen_by_click_and_by_keys_and_its_ways_are_shown(browser, explanation):
    click(browser, ".node[data-layer='2'][data-place='4']")
    expect_ways(browser, explanation, 2, 4)
    press(browser, Keys.ARROW_DOWN)
    expect_ways(browser, explanation, 2, 5)
    press(browser, Keys.ARROW_LEFT)
    chosen = browser.switch_to.active_element
    assert chosen.get_attribute("data-layer") == "1"
    expect_ways(browser, explanation, 1, int(chosen.get_attribute("data-place")))
    assert text(browser, "#stage-title") == "Forward first"  # in the network, arrows do not step


def expect_ways(browser: webdriver.Chrome, explanation: Explanation, layer: int, place: int) -> None:
    neuron = int(drawn_in(browser, layer)[place])
    assert f"neuron {neuron} of layer {layer}" in text(browser, "#ways-body > p")
    chosen = browser.find_elements(By.CSS_SELECTOR, ".node[aria-pressed=true]")
    assert [node.get_attribute("data-place") for node in chosen] == [str(place)]
    view = explanation.view_neuron(explanation.example, layer, neuron)
    for way in view.ways:
        effect = way.together
        columns = (effect.activation_predicted, effect.activation_measured, effect.cost_predicted, effect.cost_measured)
        row = f"#ways-table tr[data-way='{way.kind}'] td"
        expect(values(browser, f"{row}[data-effect]"), [column[0] for column in columns])
        assert values(browser, f"{row}[data-value]")[0] == pytest.approx(way.slope_length, **CLOSE)


def test_wishes_and_their_sums_are_those_of_the_layer(browser, explanation):
    example = explanation.example
    for layer, place in ((3, 1), (2, 2)):
        click(browser, f"#wishes .tabs button:nth-child({place})")
        cells = values(browser, "#wishes [data-cell]", "data-cell")
        here, before = drawn_in(browser, layer), drawn_in(browser, layer - 1)
        for j, k in np.ndindex(len(here), len(before)):
            assert cells[f"{layer}-{j}-{k}"] == pytest.approx(example.wishes(layer)[here[j], before[k]], **CLOSE)
        columns = [
            [v for key, v in cells.items() if key.endswith(f"-{k}") and "sum" not in key] for k in range(len(before))
        ]
        sums = [cells[f"{layer}-sum-{k}"] for k in range(len(before))]
        expect(sums, example.nudges[layer - 1][before])
        expect([sum(column) for column in columns], sums)
    click(browser, "#wishes .tabs button:nth-child(3)")
    assert len(browser.find_elements(By.CSS_SELECTOR, "#wishes canvas")) == 16 + 2  # others, sum


def test_weight_nudges_are_the_outer_product(browser, explanation):
    cells = values(browser, "#hebb [data-cell]", "data-cell")
    before = drawn_in(browser, 2)
    nudges = explanation.example.weight_nudges(3)[:, before]
    for (j, k), nudge in np.ndenumerate(nudges):
        assert cells[f"3-{j}-{k}"] == pytest.approx(nudge, **CLOSE)
    framed = browser.execute_script(
        "return [...document.querySelectorAll('#hebb i.strong')].map(e => +e.dataset.value)"
    )
    expect(sorted(np.abs(framed))[::-1], sorted(np.abs(nudges).ravel())[::-1][:3])


def test_the_table_the_batch_and_the_rest_are_the_explanations(browser, explanation):
    table = explanation.table
    shown = values(browser, "[data-wish]", "data-wish")
    expected = np.column_stack([table.wishes, table.batch_average, table.all_average])
    assert shown == pytest.approx({f"{r}-{c}": float(wish) for (r, c), wish in np.ndenumerate(expected)}, **CLOSE)
    shares = values(browser, "[data-share]", "data-share")
    batch = explanation.batch
    times = batch.shares * len(batch.indices)
    assert shares == pytest.approx({str(i): share for i, share in zip(batch.indices, times, strict=True)}, **CLOSE)
    expect(values(browser, "[data-batch]"), explanation.fan.agreements)
    expect(values(browser, "[data-bin]"), explanation.spread.counts)
    called = values(browser, "[data-called]", "data-called")
    for number, listening in enumerate(explanation.listening):
        for time, share in enumerate(listening.called[:, listening.class_number]):
            assert called[f"{number}-{time}"] == pytest.approx(share, **CLOSE)


def test_pointing_at_something_shows_its_numbers(browser, explanation):
    node = browser.find_element(By.CSS_SELECTOR, ".node[data-layer='3'][data-place='2']")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", node)
    tip = browser.find_element(By.ID, "tip")
    WebDriverWait(browser, 10).until(lambda _: shows_when_pointed_at(browser, node, tip))
    output = float(explanation.example.outputs[2])
    assert tip.text.splitlines() == [
        "output “2”",
        f"activation {browser.execute_script('return show(arguments[0])', output)}",
    ]
    press(browser, Keys.ESCAPE)
    assert not tip.is_displayed()


def shows_when_pointed_at(browser: webdriver.Chrome, node, tip) -> bool:
    """Point at a node from outside it, as only entering it shows the tip, which scrolling that has not ended hides."""
    ActionChains(browser).move_by_offset(60, 3).move_to_element(node).perform()
    return tip.is_displayed()


def test_numbers_are_written_for_people(browser):
    written = {0: "0", 1: "1", -3: "−3", 0.25: "0.250", -0.0047123: "−0.00471", 1234.5: "1235", 4.71e-6: "4.7·10⁻⁶"}
    for number, expected in {**written, -2e7 - 0.5: "−2.0·10⁷"}.items():
        assert browser.execute_script("return show(arguments[0])", number) == expected
    for number, expected in {205.4: "205", 99.7: "100", 12.34: "12"}.items():
        assert browser.execute_script("return show(arguments[0], 2)", number) == expected


def test_everything_that_speaks_in_pictures_has_a_name(browser):
    script = """return [...document.querySelectorAll('button, canvas, [role=button], [role=img], [role=group]')]
        .filter(e => !e.closest('[hidden]') && !(e.getAttribute('aria-label') || e.textContent.trim()))
        .map(e => e.outerHTML)"""
    press(browser, *[Keys.ARROW_RIGHT] * 5)
    assert browser.execute_script(script) == []
    node = browser.find_element(By.CSS_SELECTOR, ".node[data-layer='2']")
    assert node.aria_role == "button"
    assert node.accessible_name.startswith("neuron ")
    assert "activation" in node.accessible_name
    assert "wished for" in node.accessible_name


def test_the_examples_are_a_group_of_radio_buttons_for_the_keyboard(browser):
    browser.find_element(By.CSS_SELECTOR, ".pick").send_keys(Keys.ARROW_RIGHT)
    chosen = browser.switch_to.active_element
    assert chosen.get_attribute("aria-checked") == "true"
    assert chosen == browser.find_elements(By.CSS_SELECTOR, ".pick")[1]
    press(browser, "E")
    assert browser.find_elements(By.CSS_SELECTOR, ".pick")[0].get_attribute("aria-checked") == "true"


@pytest.mark.parametrize("width", [360, 768])
def test_nothing_sticks_out_on_a_narrow_screen(browser, page, width):
    emulate(browser, width, "light")
    open_page(browser, page)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    click(browser, "#next")
    click(browser, ".node[data-layer='1'][data-place='3']")
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width


def test_light_and_dark_follow_the_system(browser):
    def lightness() -> list[int]:
        script = "return [getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
        return [sum(map(int, color[4:-1].split(","))) for color in browser.execute_script(script)]

    background, ink = lightness()
    assert background > 700 > 150 > ink
    emulate(browser, 1180, "dark")
    background, ink = lightness()
    assert background < 100 < 600 < ink


@pytest.mark.parametrize(
    ("data", "model"),
    [
        ("classes", {"hidden": []}),
        ("classes", {"hidden": [3, 3, 3, 3], "activation": "tanh", "loss": "squared_error"}),
        ("colors", {"hidden": [24]}),
        ("targets", {"hidden": [], "loss": "squared_error"}),
        ("targets", {"activation": "gelu", "loss": "squared_error"}),
    ],
)
def test_every_kind_of_network_is_drawn(chromium, train_small, tmp_path, data, model):
    explanation = explain_run(train_small(data, **model).run, 2)
    emulate(chromium, 1180, "light")
    open_page(chromium, write_page(explanation, tmp_path / "page.html"))
    num_layers = explanation.network.num_layers
    for _ in range(num_layers + 3):
        press(chromium, Keys.ARROW_RIGHT)
    for number in range(len(chromium.find_elements(By.CSS_SELECTOR, ".tabs button"))):
        chromium.execute_script("document.querySelectorAll('.tabs button')[arguments[0]].click()", number)
    assert text(chromium, "#stage-title") == "What every weight is asked"
    assert complaints(chromium) == []
    assert "undefined" not in text(chromium, "body")
    assert "NaN" not in text(chromium, "body")
    assert "object" not in text(chromium, "main")
    expect(values(chromium, "td.says"), explanation.example.outputs[drawn_in(chromium, num_layers)])
