"""A PyTorch module inside the graph of a network: between the prepared inputs and the outputs with their names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from distbp.errors import ConfigError
from distbp.export.graph import Graph, Shape
from distbp.prediction.network import Network

if TYPE_CHECKING:
    from distbp.nn.modules.torch_model import Form

MODULE_OPSET = 18
"""The version of ONNX's operators that torch.onnx writes by itself: onnxruntime from 1.14 on knows it."""
_PREFIX = "module/"
_LARGEST = (1 << 31) - (1 << 24)


def add_module(graph: Graph, network: Network, x: str) -> tuple[str, Shape]:
    """Add the network's PyTorch module after the prepared inputs (N, I), or tokens (N, ...), called `x`.

    Return the name and shape of the answers: probabilities (N, K) or (N, T, K), or values.

    Raises ConfigError for a module that torch.onnx cannot write.
    """
    import onnx

    from distbp.nn.modules.onnx_writing import INPUT, OUTPUT, write_module
    from distbp.nn.modules.torch_model import TorchModel

    if network.flat.nbytes > _LARGEST:
        raise ConfigError("the network has more than 2 GB, which one ONNX file cannot hold; use --to safetensors")
    model = network.spec.build()
    assert isinstance(model, TorchModel)
    written = onnx.compose.add_prefix(write_module(model, network.flat, graph.opset), _PREFIX)
    _forget_sources(written.graph)
    graph.add("Identity", _shape_inputs(graph, model.form, x), output=_PREFIX + INPUT)
    graph.splice(written.graph)
    answers = graph.add("Cast", _PREFIX + OUTPUT, to=graph.number_type)
    return _answer(graph, model.form, answers), _read_shape(written.graph.output[0])


def _shape_inputs(graph: Graph, form: Form, x: str) -> str:
    from onnx import TensorProto

    if len(form.input_shape) > 1:
        x = graph.add("Reshape", x, graph.constant(np.array([0, *form.input_shape])))  # 0: as many as there are
    return graph.add("Cast", x, to=TensorProto.INT64) if form.integer_inputs else x


def _answer(graph: Graph, form: Form, outputs: str) -> str:
    """Add what makes answers of the module's outputs, as distbp.nn.modules.torch_model does in predictions."""
    if form.has_many_labels:
        return graph.add("Sigmoid", outputs)
    return graph.add("Softmax", outputs, axis=-1) if form.is_classification else outputs


def _read_shape(value: Any) -> Shape:
    """Return the shape of an output whose first dimension is the number of examples."""
    dims = value.type.tensor_type.shape.dim
    return ("N", *(dim.dim_value or dim.dim_param for dim in dims[1:]))


def _forget_sources(graph: Any) -> None:
    """Remove what torch notes of the code that a node came from: its lines, and where its files lie."""
    for node in graph.node:
        node.ClearField("doc_string")
        node.ClearField("metadata_props")
        for attribute in node.attribute:
            _forget_sources(attribute.g)
    for value in graph.initializer:
        value.ClearField("metadata_props")
