"""distbp: data-parallel SGD on Ray whose result does not depend on where it ran.

from distbp import Placement, Recipe, load_run, train

Names are imported when they are first used, so that `distbp --help` need not wait for NumPy.
"""

from importlib import import_module

TYPE_CHECKING = False  # that of typing, which `python -m distbp` would look for in the current folder first
if TYPE_CHECKING:
    from distbp.config import Config, Placement, Recipe, load_config
    from distbp.errors import DistbpError
    from distbp.explain import ExampleView, Explanation, explain_run
    from distbp.prediction.trained_run import TrainedRun, load_run
    from distbp.training import Result, train
    from distbp.verification.verify import Verdict, verify

__all__ = [
    "Config",
    "DistbpError",
    "ExampleView",
    "Explanation",
    "Placement",
    "Recipe",
    "Result",
    "TrainedRun",
    "Verdict",
    "explain_run",
    "load_config",
    "load_run",
    "train",
    "verify",
]

_HOMES = {
    "Config": "config",
    "DistbpError": "errors",
    "ExampleView": "explain",
    "Explanation": "explain",
    "Placement": "config",
    "Recipe": "config",
    "Result": "training",
    "TrainedRun": "prediction.trained_run",
    "Verdict": "verification.verify",
    "explain_run": "explain",
    "load_config": "config",
    "load_run": "prediction.trained_run",
    "train": "training",
    "verify": "verification.verify",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'distbp' has no attribute '{name}'")
    value: object = getattr(import_module(f"distbp.{_HOMES[name]}"), name)
    globals()[name] = value  # found at once the next time
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
