"""config.yaml of a run: its whole configuration, who wrote it, and which recipes its older checkpoints may name.

    written_by: {distbp: 0.2.0, format: 2, earlier_recipes: [...]}
    recipe: ...
    placement: ...

0.1.0 wrote recipe and placement only.
"""

from __future__ import annotations

from dataclasses import dataclass

import yaml

from distbp.config import WRITTEN_BY, Config, Recipe, dump_yaml, parse_config, parse_yaml
from distbp.config.identity import complete
from distbp.errors import CheckpointError, ConfigError
from distbp.installation import describe_newer, describe_writer


@dataclass(frozen=True)
class StoredConfig:
    """The configuration of a run.

    earlier_recipes: digests of what the recipe was before it got more epochs or its data another place.
    """

    config: Config
    earlier_recipes: tuple[str, ...] = ()

    def owns(self, recipe_digest: str) -> bool:
        """Return whether a checkpoint that names this digest, written by any version, is of this run's recipe."""
        return recipe_digest in (*_digests(self.config.recipe), *self.earlier_recipes)

    def with_recipe(self, recipe: Recipe) -> StoredConfig:
        """Return the same with the recipe changed; what was trained by the one before still belongs to it."""
        config = self.config.model_copy(update={"recipe": recipe})
        earlier = dict.fromkeys((*self.earlier_recipes, *_digests(self.config.recipe)))
        return StoredConfig(config, tuple(earlier))

    def encode(self) -> bytes:
        """Return the content of config.yaml: every field, also those that have their defaults."""
        written_by = {**describe_writer(), "earlier_recipes": list(self.earlier_recipes)}
        return dump_yaml({WRITTEN_BY: written_by, **self.config.model_dump(mode="json")}).encode()


def decode_config(content: bytes, url: str) -> StoredConfig:
    """Return what a config.yaml of this or an older version holds; a field that it lacks has its first default.

    Raises CheckpointError if it is damaged or a newer distbp wrote it.
    """
    try:
        values = parse_yaml(content, yaml.SafeLoader)  # as 0.1.0 dumped it; later ones read the same either way
        if not isinstance(values, dict):
            raise ValueError(f"it holds {values!r:.40}")
        written_by = values.pop(WRITTEN_BY, None) or {}
        if sentence := describe_newer(f"'{url}'", written_by):
            raise CheckpointError(sentence)
        recipe = values.get("recipe", {})
        if not isinstance(recipe, dict):
            raise ValueError(f"its recipe is {recipe!r:.40}, not a section with keys")
        config = parse_config({**values, "recipe": complete(recipe)}, origin="it")
        return StoredConfig(config, tuple(map(str, written_by.get("earlier_recipes", ()))))
    except (ConfigError, yaml.YAMLError, ValueError, TypeError, AttributeError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(f"'{url}' is damaged: {reason}; expected the file as the run wrote it") from None


def _digests(recipe: Recipe) -> tuple[str, str]:
    return recipe.digest, recipe.digest_of_0_1_0
