"""A PyTorch module as an ONNX graph, through torch.onnx: as in evaluation, for any number of examples."""

from __future__ import annotations

import io
import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from distbp.errors import ConfigError
from distbp.nn.modules import process
from distbp.nn.modules.torch_model import TorchModel

INPUT, OUTPUT = "x", "outputs"
"""The names of the graph's input (N, *input_shape) and output (N, ...)."""
_NUM_EXAMPLES = 3  # of the pass that is followed; 0 and 1 are what torch treats apart
_DRAWING = {"Bernoulli", "Dropout", "Multinomial"}
_ADVICE = (
    "export its weights with --to safetensors, and load them into the module where it is used (module.load_state_dict)"
)


def write_module(model: TorchModel, flat: NDArray, opset: int) -> Any:
    """Return an onnx.ModelProto of the module with the values of the flat vector; the model is not to be used again.

    opset: of its operators, from 18 on.

    Raises ConfigError for a module of which torch.onnx makes no graph, or one that would answer otherwise.
    """
    module, values = model.module, model.layout.state_dict(flat)
    module.load_state_dict({name: torch.tensor(np.asarray(value)) for name, value in values.items()})
    module.eval()
    dtype = torch.int64 if model.form.integer_inputs else getattr(torch, model.form.dtype)
    with process.computing(), torch.no_grad(), _quiet():
        written = _write(module, torch.zeros((_NUM_EXAMPLES, *model.form.input_shape), dtype=dtype), opset)
    _check_graph(written.graph)
    return written


def _write(module: torch.nn.Module, x: torch.Tensor, opset: int) -> Any:
    try:
        program = torch.onnx.export(
            module,
            (x,),
            input_names=[INPUT],
            output_names=[OUTPUT],
            opset_version=opset,
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("N")},),
            verbose=False,
        )
    except Exception as error:  # whatever the user's code raises too
        raise ConfigError(f"{_describe(error)}; {_ADVICE}") from error
    return program.model_proto


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep away what torch tells: warnings about its own code, its log, and whole graphs that it prints."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _describe(error: BaseException) -> str:
    """Return what torch.onnx cannot write: the operation's name, or the first words of the innermost error."""
    while error.__cause__ is not None:
        error = error.__cause__
    operation = re.search(r"No ONNX function found for .*op='([\w.:]+)'", str(error))
    if operation:
        return f"torch.onnx cannot write the operation {operation[1]} of the module"
    if type(error).__name__ == "GuardOnDataDependentSymNode":
        return "torch.onnx cannot write the module, because its forward pass decides by values of its inputs (if, item)"
    text = next(iter(str(error).splitlines()), "")
    return f"torch.onnx cannot write the module ({type(error).__name__}: {text:.200})"


def _check_graph(graph: Any) -> None:
    """Refuse a graph for one number of examples alone, and one that draws."""
    num_examples = graph.input[0].type.tensor_type.shape.dim[0]
    if not num_examples.dim_param:
        raise ConfigError(
            f"the ONNX graph of the module would take {num_examples.dim_value} examples and no other number, because "
            f"its forward pass makes a plain number of x.shape[0], or compares it; {_ADVICE}"
        )
    drawing = [name for name in _list_operators(graph) if name in _DRAWING or name.startswith("Random")]
    if drawing:
        raise ConfigError(
            f"the module draws random numbers in evaluation too ({drawing[0]}), which no file can repeat; "
            f"leave that out where self.training is false, or {_ADVICE}"
        )


def _list_operators(graph: Any) -> Iterator[str]:
    """Yield the operators of a graph, and of those inside it, which branches and loops have."""
    for node in graph.node:
        yield node.op_type
        for attribute in node.attribute:
            yield from _list_operators(attribute.g)
