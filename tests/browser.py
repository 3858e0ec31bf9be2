"""Chromium for tests, in a profile of its own, gone with the process that started it even after SIGKILL."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

CHROMIUM, DRIVER = (Path("/usr/bin") / name for name in ("chromium", "chromedriver"))
IS_THERE = CHROMIUM.exists() and DRIVER.exists()
ARGUMENTS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --force-prefers-reduced-motion --window-size=1180,900"
)


@contextmanager
def open_chromium(folder: Path) -> Iterator[Chrome]:
    """Yield a browser that keeps its files in `folder`."""
    from selenium import webdriver

    profile = folder / "profile"
    options = webdriver.ChromeOptions()
    options.binary_location = str(_write_mortal(folder, CHROMIUM))
    for argument in (*ARGUMENTS.split(), f"--user-data-dir={profile}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options, webdriver.ChromeService(str(_write_mortal(folder, DRIVER))))
    browser.set_page_load_timeout(30)
    try:
        yield browser
    finally:
        browser.quit()
        shutil.rmtree(profile, ignore_errors=True)


def emulate(browser: Chrome, width: int, scheme: str) -> None:
    """Let the browser have a screen of this width, and a system of a light or dark scheme."""
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def _write_mortal(folder: Path, program: Path) -> Path:
    """Return a script that runs a program which the kernel kills when its parent dies."""
    script = folder / program.name
    script.write_text(f'#!/bin/sh\nexec setpriv --pdeathsig KILL {program} "$@"\n')
    script.chmod(0o755)
    return script
