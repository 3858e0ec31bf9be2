"""From a network to an ONNX graph: inputs as users have them, scaling, layers, and labels as people know them.

Shape legend: N examples, I inputs, O outputs, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from distbp.errors import ConfigError
from distbp.export.onnx_columns import ML, prepare_columns
from distbp.installation import describe_writer, need
from distbp.nn.mlp import MLP
from distbp.prediction.network import Network

if TYPE_CHECKING:
    from onnx import ModelProto

OPSET = 17
"""The version of ONNX's operators: onnxruntime from 1.12 on knows it."""
_IR_VERSION, _ML_OPSET = 8, 2
_PREPARED, _NUMBER = "prepared inputs", "number of the class"


def to_onnx(network: Network, notes: Mapping[str, str] | None = None) -> bytes:
    """Return the network as an ONNX file's content. notes: kept in it as metadata.

    Inputs are float64, as users have them: one (N, 1) for each column of a table, under its name; else "x" (N, ...).
    Outputs: "label" (N,) and "probabilities" (N, K), or "prediction" (N, O).

    Raises ConfigError without the library onnx, and for a model of the user's own.
    """
    need("an ONNX file", "onnx")
    if not isinstance(network.model, MLP):
        raise ConfigError(
            "a model of your own is code that ONNX cannot be written from here; export its weights with --to "
            "safetensors, load them into your module, and give that to torch.onnx.export"
        )
    import onnx

    graph = _Graph(network.spec.dtype)
    prepared = _prepare_inputs(graph, network)
    outputs = _add_layers(graph, network, prepared)
    _name_outputs(graph, network, outputs)
    model = graph.build({**{name: str(value) for name, value in describe_writer().items()}, **(notes or {})})
    onnx.checker.check_model(model, full_check=True)
    content: bytes = model.SerializeToString()
    return content


class _Graph:
    """Collects nodes, constants, inputs and outputs of one graph; names of values are made as they are needed."""

    def __init__(self, dtype: str):
        from onnx import TensorProto

        self.dtype = np.dtype(dtype)
        self.number_type = {"float32": TensorProto.FLOAT, "float64": TensorProto.DOUBLE}[dtype]
        self._nodes: list[Any] = []
        self._constants: list[Any] = []
        self._inputs: list[Any] = []
        self._outputs: list[Any] = []

    def add(self, operator: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        """Add a node and return the name of its output."""
        from onnx import helper

        name = output or f"{operator} {len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, list(inputs), [name], **attributes))
        return name

    def constant(self, value: NDArray) -> str:
        """Add a constant and return its name."""
        from onnx import numpy_helper

        name = f"constant {len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def number(self, value: float | NDArray) -> str:
        """Add a constant in the network's number format and return its name."""
        return self.constant(np.asarray(value, self.dtype))

    def take_input(self, name: str, shape: tuple[str | int, ...], is_text: bool = False) -> str:
        """Add an input of float64, or of text, and return its name."""
        from onnx import TensorProto, helper

        kind = TensorProto.STRING if is_text else TensorProto.DOUBLE
        self._inputs.append(helper.make_tensor_value_info(name, kind, shape))
        return name

    def give_output(self, name: str, kind: int, shape: tuple[str | int, ...]) -> None:
        """Make the value called `name` an output."""
        from onnx import helper

        self._outputs.append(helper.make_tensor_value_info(name, kind, shape))

    def build(self, metadata: Mapping[str, str]) -> ModelProto:
        """Return the whole model."""
        from onnx import helper

        graph = helper.make_graph(self._nodes, "distbp", self._inputs, self._outputs, self._constants)
        opsets = [helper.make_opsetid("", OPSET)]
        if any(node.domain == ML for node in self._nodes):
            opsets.append(helper.make_opsetid(ML, _ML_OPSET))
        model = helper.make_model(graph, producer_name="distbp", opset_imports=opsets, ir_version=_IR_VERSION)
        helper.set_model_props(model, dict(metadata))
        return model


def _prepare_inputs(graph: _Graph, network: Network) -> str:
    """Add the inputs and what training did to them; return the name of (N, I) in the network's number format."""
    columns = network.schema.columns
    if columns is not None:
        x = prepare_columns(graph, columns, lambda raw: _scale(graph, raw, network))
        return graph.add("Identity", x, output=_PREPARED)
    return graph.add("Identity", _scale(graph, _take_inputs(graph, network), network), output=_PREPARED)


def _scale(graph: _Graph, raw: str, network: Network) -> str:
    """Return the name of numbers (N, n) in float64 after their scaling, in the network's number format."""
    scaling = network.schema.scaling.cast(network.spec.dtype, np.dtype(np.float64))
    x = graph.add("Cast", raw, to=graph.number_type)
    if scaling.shift is not None:
        x = graph.add("Sub", x, graph.number(scaling.shift))
    if scaling.far is not None:
        x = _shift_far(graph, raw, x, scaling.far.columns, scaling.far.shift)
    if scaling.scale is not None:
        x = graph.add("Mul", x, graph.number(scaling.scale))
    return x


def _take_inputs(graph: _Graph, network: Network) -> str:
    """Return the name of the raw inputs (N, I) in float64."""
    schema = network.schema
    if schema.feature_names is None:
        x = graph.take_input("x", ("N", *schema.input_shape))
        return x if len(schema.input_shape) == 1 else graph.add("Flatten", x, axis=1)
    columns = [graph.take_input(name, ("N", 1)) for name in schema.feature_names]
    return graph.add("Concat", *columns, axis=1)


def _shift_far(graph: _Graph, raw: str, x: str, columns: NDArray, shift: NDArray) -> str:
    """Return x in which the columns far from 0 for their spread are shifted in float64, before they are rounded."""
    far = graph.add("Sub", graph.add("Gather", raw, graph.constant(columns), axis=1), graph.constant(shift))
    places = np.zeros((len(columns), 1), np.int64) + columns[:, None]
    transposed = graph.add("Transpose", x, perm=[1, 0])
    rounded = graph.add("Transpose", graph.add("Cast", far, to=graph.number_type), perm=[1, 0])
    changed = graph.add("ScatterND", transposed, graph.constant(places), rounded)
    return graph.add("Transpose", changed, perm=[1, 0])


def _add_layers(graph: _Graph, network: Network, x: str) -> str:
    """Add all layers; return the name of the outputs (N, O): probabilities, sigmoids, or values."""
    parameters, config = network.parameters, network.spec.config
    num_layers = len(config.hidden) + 1
    for layer in range(num_layers):
        weight, bias = parameters[f"{layer}.weight"], parameters[f"{layer}.bias"]
        x = graph.add("Gemm", x, graph.constant(weight), graph.constant(bias), transB=1)
        if layer < num_layers - 1:
            x = _activate(graph, config.activation, x)
    is_classification = network.spec.is_classification
    if config.loss == "cross_entropy" or (config.loss is None and is_classification):
        return graph.add("Softmax", x, axis=1)
    if config.loss == "binary_cross_entropy":
        return graph.add("Sigmoid", x)
    return _activate(graph, "sigmoid" if is_classification else "identity", x)


def _activate(graph: _Graph, name: str, z: str) -> str:
    """Return s(z), by the equations of distbp.nn.activations."""
    if name == "identity":
        return z
    if name == "tanh":
        return graph.add("Tanh", z)
    if name == "relu":
        return graph.add("Relu", z)
    half = graph.number(0.5)
    if name == "sigmoid":  # (1 + tanh(z / 2)) / 2
        return graph.add("Mul", graph.add("Add", graph.add("Tanh", graph.add("Mul", z, half)), graph.number(1)), half)
    cube = graph.add("Mul", graph.add("Mul", z, z), z)
    inner = graph.add("Add", z, graph.add("Mul", cube, graph.number(0.044715)))
    tanh = graph.add("Tanh", graph.add("Mul", inner, graph.number(np.sqrt(2 / np.pi))))
    return graph.add("Mul", graph.add("Mul", z, half), graph.add("Add", tanh, graph.number(1)))


def _name_outputs(graph: _Graph, network: Network, outputs: str) -> None:
    from onnx import TensorProto

    schema = network.schema
    if schema.classes is None:
        kind = graph.number_type
        if schema.targets.shift is not None and schema.targets.scale is not None:  # back to the users' units
            kind = TensorProto.DOUBLE
            exact = graph.add("Cast", outputs, to=kind)
            spread = graph.add("Div", exact, graph.constant(schema.targets.scale))
            outputs = graph.add("Add", spread, graph.constant(schema.targets.shift))
        graph.add("Identity", outputs, output="prediction")
        graph.give_output("prediction", kind, ("N", schema.num_outputs))
        return
    labels = np.array(schema.classes, object if isinstance(schema.classes[0], str) else None)
    kind = {"O": TensorProto.STRING, "b": TensorProto.BOOL}.get(labels.dtype.kind, TensorProto.INT64)
    best = graph.add("ArgMax", outputs, axis=1, keepdims=0, output=_NUMBER)
    graph.add("Gather", graph.constant(labels), best, output="label", axis=0)
    graph.give_output("label", kind, ("N",))
    graph.add("Identity", outputs, output="probabilities")
    graph.give_output("probabilities", graph.number_type, ("N", schema.num_outputs))
