"""Rounds: how many steps how many replicas take on their own before their average is committed."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from distbp.config.settings import Fraction, PositiveFloat, PositiveInt, Settings

DEFAULT_REPLICAS = 4


class Outer(Settings):
    """The step that follows a round: SGD, whose gradient is how far the replicas went on the average."""

    learning_rate: PositiveFloat = Field(0.7, description="1 without momentum: the parameters become the average")
    momentum: Fraction = Field(0.9, description="of the steps between rounds; 0: none")
    nesterov: bool = Field(True, description="step along g + momentum * v (DiLoCo, Douillard et al. 2023)")


class Rounds(Settings):
    """Local steps for slow links: replicas train apart for some steps, each on its part of every batch."""

    steps: PositiveInt | None = Field(None, description="steps between two commits; null: every step is committed")
    replicas: Annotated[int, Field(gt=0, le=1024)] = Field(
        DEFAULT_REPLICAS, description="that train apart; part of the recipe, however many workers carry them out"
    )
    outer: Outer = Outer()

    @model_validator(mode="after")
    def _all_need_steps(self) -> Self:
        if self.steps is None and (self.replicas != DEFAULT_REPLICAS or self.outer != Outer()):
            raise ValueError("rounds need steps: how many to take between two commits, for example steps: 20")
        return self
