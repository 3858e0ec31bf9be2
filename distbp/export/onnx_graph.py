"""From a network to an ONNX graph: inputs as users have them, scaling, layers, and labels as people know them.

Shape legend: N examples, I inputs, O outputs, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from distbp.data.preparation import Column, Preparation
from distbp.errors import ConfigError
from distbp.export.graph import ML_DOMAIN, Graph, Shape
from distbp.export.module_graph import MODULE_OPSET, add_module
from distbp.installation import describe_writer, need
from distbp.prediction.network import Network

OPSET = 17
"""The version of ONNX's operators, of a built-in network: onnxruntime from 1.12 on knows it."""
_PREPARED, _NUMBER = "prepared inputs", "number of the class"


def to_onnx(network: Network, notes: Mapping[str, str] | None = None) -> bytes:
    """Return the network as an ONNX file's content. notes: kept in it as metadata.

    Inputs are float64, as users have them: one (N, 1) for each column of a table, under its name; else "x" (N, ...),
    which is int64 where a PyTorch module takes whole numbers, such as tokens.
    NaN is a gap. A column of categories is text, where a gap is empty; a date is given by its parts, as "day.month".
    Outputs: "label" (N,) and "probabilities" (N, K), of sequences (N, T) and (N, T, K), or "prediction" (N, O).

    Raises ConfigError without the library onnx, or of a PyTorch module without onnxscript; for a module that torch.onnx
    cannot write, and for a function of the user's own.
    """
    config = network.spec.config
    if config.torch is not None:
        need("an ONNX file of a PyTorch module", "onnxscript")
    need("an ONNX file", "onnx")
    if config.function is not None:
        raise ConfigError(
            "model.function is code that ONNX cannot be written from here; export its parameters with --to "
            "safetensors, and write the graph with the tools of the library that it uses"
        )
    import onnx

    graph = Graph(network.spec.dtype, OPSET if config.torch is None else MODULE_OPSET)
    prepared = _prepare_inputs(graph, network)
    add = _add_layers if config.torch is None else add_module
    _name_outputs(graph, network, *add(graph, network, prepared))
    model = graph.build({**{name: str(value) for name, value in describe_writer().items()}, **(notes or {})})
    onnx.checker.check_model(model, full_check=True)
    content: bytes = model.SerializeToString()
    return content


def _prepare_inputs(graph: Graph, network: Network) -> str:
    """Add the inputs and what training did to them; return the name of (N, I) in the network's number format."""
    schema = network.schema
    if _takes_tokens(network):
        return graph.take_input("x", ("N", *schema.input_shape), "INT64")
    if schema.columns is not None:
        return graph.add("Identity", _prepare_columns(graph, network, schema.columns), output=_PREPARED)
    return graph.add("Identity", _scale(graph, network, _take_inputs(graph, network)), output=_PREPARED)


def _takes_tokens(network: Network) -> bool:
    """Return whether a PyTorch module takes whole numbers as they are."""
    schema = network.schema
    return network.spec.config.torch is not None and schema.integer_inputs and schema.feature_names is None


def _prepare_columns(graph: Graph, network: Network, columns: Preparation) -> str:
    """Return the name of a table's inputs as `Encoding` orders them: numbers, gaps, categories."""
    encoding = columns.encoding()
    parts = []
    names = [name for column in columns.used for name in column.name_numbers()]
    if names:
        given = graph.add("Concat", *(graph.take_input(name, ("N", 1)) for name in names), axis=1)
        gaps = graph.add("IsNaN", given)
        parts.append(_scale(graph, network, graph.add("Where", gaps, graph.constant(encoding.fill), given)))
        if len(encoding.indicators):
            told = graph.add("Gather", gaps, graph.constant(encoding.indicators.astype(np.int64)), axis=1)
            parts.append(graph.add("Cast", told, to=graph.number_type))
    for column in columns.categories:
        parts.append(_encode_category(graph, column))
    return graph.add("Concat", *parts, axis=1)


def _encode_category(graph: Graph, column: Column) -> str:
    """Return the name of an input (N, size) for each category of a column, and for a gap, which is empty text."""
    keys = [*column.categories, *([""] if column.has_gaps else [])]
    codes = graph.add(
        "LabelEncoder",
        graph.take_input(column.name, ("N", 1), "STRING"),
        domain=ML_DOMAIN,
        keys_strings=keys,
        values_int64s=list(range(1, len(keys) + 1)),
        default_int64=0,
    )
    is_it = graph.add("Equal", codes, graph.constant(np.arange(1, len(keys) + 1)[None, :]))
    return graph.add("Cast", is_it, to=graph.number_type)


def _scale(graph: Graph, network: Network, raw: str) -> str:
    """Return the name of raw numbers (N, n), float64, scaled as in training, in the network's number format."""
    scaling = network.schema.scaling.cast(network.spec.dtype, np.dtype(np.float64))
    x = graph.add("Cast", raw, to=graph.number_type)
    if scaling.shift is not None:
        x = graph.add("Sub", x, graph.number(scaling.shift))
    if scaling.far is not None:
        x = _shift_far(graph, raw, x, scaling.far.columns, scaling.far.shift)
    return x if scaling.scale is None else graph.add("Mul", x, graph.number(scaling.scale))


def _take_inputs(graph: Graph, network: Network) -> str:
    """Return the name of the raw inputs (N, I) in float64."""
    schema = network.schema
    if schema.feature_names is None:
        x = graph.take_input("x", ("N", *schema.input_shape))
        return x if len(schema.input_shape) == 1 else graph.add("Flatten", x, axis=1)
    columns = [graph.take_input(name, ("N", 1)) for name in schema.feature_names]
    return graph.add("Concat", *columns, axis=1)


def _shift_far(graph: Graph, raw: str, x: str, columns: NDArray, shift: NDArray) -> str:
    """Return x in which the columns far from 0 for their spread are shifted in float64, before they are rounded."""
    far = graph.add("Sub", graph.add("Gather", raw, graph.constant(columns), axis=1), graph.constant(shift))
    places = np.zeros((len(columns), 1), np.int64) + columns[:, None]
    transposed = graph.add("Transpose", x, perm=[1, 0])
    rounded = graph.add("Transpose", graph.add("Cast", far, to=graph.number_type), perm=[1, 0])
    changed = graph.add("ScatterND", transposed, graph.constant(places), rounded)
    return graph.add("Transpose", changed, perm=[1, 0])


def _add_layers(graph: Graph, network: Network, x: str) -> tuple[str, Shape]:
    """Add all layers; return the name and shape of the outputs (N, O): probabilities, sigmoids, or values."""
    parameters, config = network.parameters, network.spec.config
    shape = ("N", network.schema.num_outputs)
    num_layers = len(config.hidden) + 1
    for layer in range(num_layers):
        weight, bias = parameters[f"{layer}.weight"], parameters[f"{layer}.bias"]
        x = graph.add("Gemm", x, graph.constant(weight), graph.constant(bias), transB=1)
        if layer < num_layers - 1:
            x = _activate(graph, config.activation, x)
    if config.loss == "cross_entropy":
        return graph.add("Softmax", x, axis=1), shape
    is_sigmoid = network.spec.is_classification or config.loss == "binary_cross_entropy"
    return _activate(graph, "sigmoid" if is_sigmoid else "identity", x), shape


def _activate(graph: Graph, name: str, z: str) -> str:
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


def _name_outputs(graph: Graph, network: Network, outputs: str, shape: Shape) -> None:
    """Name labels, probabilities or values as outputs of the graph. shape: of `outputs`, which ends with K or O."""
    from onnx import TensorProto

    schema = network.schema
    if schema.labels is not None:
        _choose_of_pairs(graph, schema.labels, outputs)
        return
    if schema.classes is None:
        _give_values(graph, network, outputs, shape)
        return
    labels = np.array(schema.classes, object if isinstance(schema.classes[0], str) else None)
    kind = {"O": TensorProto.STRING, "b": TensorProto.BOOL}.get(labels.dtype.kind, TensorProto.INT64)
    best = graph.add("ArgMax", outputs, axis=len(shape) - 1, keepdims=0, output=_NUMBER)
    graph.add("Gather", graph.constant(labels), best, output="label", axis=0)
    graph.give_output("label", kind, shape[:-1])
    graph.add("Identity", outputs, output="probabilities")
    graph.give_output("probabilities", graph.number_type, shape)


def _give_values(graph: Graph, network: Network, outputs: str, shape: Shape) -> None:
    """Make the values an output, in the units of the targets: as `Network.in_units`."""
    from onnx import TensorProto

    targets, kind = network.schema.targets, graph.number_type
    if targets.shift is not None and targets.scale is not None:
        kind = TensorProto.DOUBLE
        values = graph.add("Div", graph.add("Cast", outputs, to=kind), graph.constant(targets.scale))
        outputs = graph.add("Add", values, graph.constant(targets.shift))
    graph.add("Identity", outputs, output="prediction")
    graph.give_output("prediction", kind, shape)


def _choose_of_pairs(graph: Graph, labels: tuple[tuple[str, str], ...], outputs: str) -> None:
    """Make outputs of several targets that each are one of two labels: "label" (N, O) and "probabilities" (N, O)."""
    from onnx import TensorProto

    first, second = (graph.constant(np.array([pair[place] for pair in labels], object)[None, :]) for place in (0, 1))
    graph.add("Where", graph.add("Greater", outputs, graph.number(0.5)), second, first, output="label")
    graph.give_output("label", TensorProto.STRING, ("N", len(labels)))
    graph.add("Identity", outputs, output="probabilities")
    graph.give_output("probabilities", graph.number_type, ("N", len(labels)))
