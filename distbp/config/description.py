"""A Config as YAML with every field's meaning beside it."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import BaseModel

from distbp.config.config import Config
from distbp.config.values import find_open
from distbp.config.yaml_text import dump_yaml


def describe_config(config: Config) -> str:
    """Return `config` as YAML with every field's meaning beside it; load_config reads it back as the same.

    What is left to the data because nobody has set it is a comment, so it stays unset.
    """
    return "\n".join(_describe_section(config, "", [f"recipe.{name}" for name in find_open(config.recipe)]))


def _describe_section(section: BaseModel, path: str, left_open: list[str]) -> Iterator[str]:
    indent = "  " * path.count(".")
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            yield f"{indent}{name}:"
            yield from _describe_section(value, f"{path}{name}.", left_open)
        else:
            plain = section.model_dump(mode="json", include={name})[name]
            text = dump_yaml(plain, default_flow_style=True).removesuffix("...\n").strip()
            mark = "# " if f"{path}{name}" in left_open else ""
            yield f"{indent}{mark}{name}: {text}".ljust(36) + f"  # {field.description}"
