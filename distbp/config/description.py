"""A Config as YAML with every field's meaning beside it."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import BaseModel

from distbp.config.config import Config
from distbp.config.yaml_text import dump_yaml


def describe_config(config: Config) -> str:
    """Return `config` as YAML with every field's meaning beside it; load_config reads it back as the same."""
    return "\n".join(_describe_section(config, ""))


def _describe_section(section: BaseModel, indent: str) -> Iterator[str]:
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            yield f"{indent}{name}:"
            yield from _describe_section(value, indent + "  ")
        else:
            plain = section.model_dump(mode="json", include={name})[name]
            text = dump_yaml(plain, default_flow_style=True).removesuffix("...\n").strip()
            yield f"{indent}{name}: {text}".ljust(36) + f"  # {field.description}"
