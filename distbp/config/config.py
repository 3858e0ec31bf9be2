"""A whole configuration: a recipe and a placement."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import BaseModel

from distbp.config.placement import Placement
from distbp.config.recipe import Recipe
from distbp.config.settings import Settings


class Config(Settings):
    """One YAML file: a recipe and a placement."""

    recipe: Recipe = Recipe()
    placement: Placement = Placement()


def find_fields(name: str) -> list[str]:
    """Return the dotted paths of all fields called `name`, such as recipe.optimizer.learning_rate."""
    return [path for path in _field_paths(Config) if path.rpartition(".")[2] == name]


def _field_paths(model: type[BaseModel]) -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield name
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from (f"{name}.{path}" for path in _field_paths(field.annotation))
