"""The documents say only what is there: commands, options, files, links, code and configurations are looked up."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.text import Text
from typer.main import get_command

from distbp.cli.app import app
from distbp.config import load_config

TOP = Path(__file__).parents[1]
README = TOP / "README.md"
ROOMS = sorted(path for folder in ("deploy", "distbp", "tests") for path in (TOP / folder).rglob("*.md"))
PAGES = [README, *ROOMS]

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(TOP)))


def read_blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def read_prose(page: Path) -> str:
    return re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def list_commands(command: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[str, set[str]]]:
    """Yield the name and the options of every command below `command`."""
    for name, child in getattr(command, "commands", {}).items():
        yield from list_commands(child, (*words, name))
    if not hasattr(command, "commands"):
        yield " ".join(words), {"--help", *(option for parameter in command.params for option in parameter.opts)}


COMMANDS = dict(list_commands(get_command(app)))


def split_command(line: str) -> tuple[str, set[str]]:
    """Return the command and the options of a line such as `distbp study order --out DIR`."""
    words = re.sub(r"[][|\\]", " ", line).split()[1:]
    name = " ".join(words[:2]) if " ".join(words[:2]) in COMMANDS else words[0]
    return name, {word for word in words if re.fullmatch(r"--?[a-z][a-z-]*", word)}


def list_help(command: Any) -> Iterator[str]:
    """Yield the help of every command below `command`, and of its arguments and options."""
    yield from (text for part in (command, *command.params) if (text := part.help) is not None)
    for child in getattr(command, "commands", {}).values():
        yield from list_help(child)


def list_table_commands(page: Path) -> list[str]:
    rows = [line for line in page.read_text().splitlines() if line.startswith("|")]
    return re.findall(r"`(distbp [a-z][^`]*)`", "\n".join(rows))


def list_shown_commands(page: Path) -> list[str]:
    typed = "\n".join(read_blocks(page, "console") + read_blocks(page, "sh"))
    return [
        *re.findall(r"`(distbp [a-z][^`]*)`", read_prose(page)),
        *re.findall(r"(?:^|\$ )(distbp [a-z].*?)(?=  |$)", typed, flags=re.MULTILINE),
    ]


def test_readme_has_at_most_200_lines():
    assert len(README.read_text().splitlines()) <= 200


@pytest.mark.parametrize("page", ROOMS, ids=lambda page: str(page.relative_to(TOP)))
def test_page_of_a_room_is_short_and_begins_with_whom_it_is_for(page):
    lines = page.read_text().splitlines()
    assert len(lines) <= 150
    assert lines[0].startswith("# ")
    assert lines[2].startswith("For whoever ")


@every_page
def test_links_lead_to_files(page):
    targets = re.findall(r'\]\(([^)\s]+)\)|src="([^"]+)"', read_prose(page))
    relative = [path for pair in targets for path in pair if path and "://" not in path]
    assert [path for path in relative if not (page.parent / path).exists()] == []


def test_readme_has_no_relative_links_since_a_package_index_shows_it_without_the_files():
    assert re.findall(r'\]\((?!https://)|src="', README.read_text()) == []


@every_page
def test_files_named_in_the_text_exist(page):
    words = [word for code in re.findall(r"`([^`\n]+)`", read_prose(page)) for word in code.split()]
    paths = {word for word in words if re.fullmatch(r"(distbp|deploy|tests|\.ci)/[\w./-]*|[\w/]+\.py", word)}
    assert {path for path in paths if not (TOP / path).exists() and not (page.parent / path).exists()} == set()


def test_tree_names_every_folder_with_code():
    tree = README.read_text().partition("## The tree\n")[2].split("```")[1]
    named = set(re.findall(r"^ *(\w+)/", tree, flags=re.MULTILINE))
    folders = {path.parent.name for path in TOP.glob("distbp/*/*.py")} | {"distbp", "deploy", "tests"}
    assert named == folders


def test_table_of_the_readme_names_every_command():
    assert sorted(split_command(line)[0] for line in list_table_commands(README)) == sorted(COMMANDS)


@every_page
def test_commands_and_options_shown_exist(page):
    for line in list_shown_commands(page):
        name, options = split_command(line)
        assert options <= COMMANDS[name], line


def test_help_shows_what_stands_in_brackets():
    texts = list(list_help(get_command(app)))
    assert any("distbp\\[tensorboard]" in text for text in texts)
    assert [text for text in texts if Text.from_markup(text).plain != text.replace("\\[", "[")] == []


@every_page
def test_python_shown_compiles(page):
    for block in read_blocks(page, "python"):
        compile(block, str(page), "exec")


@every_page
def test_configurations_shown_load(page, tmp_path):
    for block in read_blocks(page, "yaml"):
        (tmp_path / "config.yaml").write_text(block)
        load_config(tmp_path / "config.yaml")


def test_readme_shows_a_configuration_and_python():
    assert [len(read_blocks(README, language)) for language in ("yaml", "python")] == [1, 1]
