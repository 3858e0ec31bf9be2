"""The version of the program, of its changelog and of its name on the command line are one."""

from __future__ import annotations

import re
from pathlib import Path

from typer.testing import CliRunner

import distbp
from distbp.cli.app import app
from distbp.installation import VERSION

SECTION = re.compile(r"^## (\d+(?:\.\d+)*)( \(unreleased\))?$", re.MULTILINE)


def test_version_is_that_of_the_newest_section_of_the_changelog():
    changelog = (Path(distbp.__file__).parent / "CHANGELOG.md").read_text()
    (newest, unreleased), *older = SECTION.findall(changelog)
    assert changelog.count("\n## ") == 1 + len(older)
    assert (f"{newest}.dev0" if unreleased else newest) == VERSION
    assert not any(mark for _, mark in older)
    assert len({newest, *(name for name, _ in older)}) == 1 + len(older)


def test_command_line_says_the_version():
    assert CliRunner().invoke(app, ["--version"]).output == f"distbp {VERSION}\n"
