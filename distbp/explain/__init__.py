"""What backpropagation is really doing: what one example asks of every weight, and how such wishes average into a step.

`explain_run` computes everything as arrays. `document` turns it into JSON values. `page` draws it. The derivatives come
from distbp.nn. This folder adds the formulas of the lesson, small steps that try them out, and averages.
"""

from distbp.explain.example import ExampleView
from distbp.explain.explanation import Explanation, explain_run, parse_neuron

__all__ = ["ExampleView", "Explanation", "explain_run", "parse_neuron"]
