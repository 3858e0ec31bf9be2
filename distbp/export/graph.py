"""An ONNX graph while it is made: nodes, constants, inputs and outputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto

Shape = tuple[str | int, ...]
ML_DOMAIN, ML_OPSET = "ai.onnx.ml", 3
"""Of the operator that finds a text among categories."""
_IR_VERSION = 8


class Graph:
    """Collects nodes, constants, inputs and outputs of one graph; names of values are made as they are needed."""

    def __init__(self, dtype: str, opset: int):
        """dtype: the network's number format, float32 or float64. opset: of the operators without a domain."""
        from onnx import TensorProto

        self.dtype = np.dtype(dtype)
        self.opset = opset
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

    def take_input(self, name: str, shape: Shape, kind: str = "DOUBLE") -> str:
        """Add an input and return its name. kind: the name of its type in ONNX, such as STRING."""
        from onnx import TensorProto, helper

        self._inputs.append(helper.make_tensor_value_info(name, getattr(TensorProto, kind), shape))
        return name

    def give_output(self, name: str, kind: int, shape: Shape) -> None:
        """Make the value called `name` an output."""
        from onnx import helper

        self._outputs.append(helper.make_tensor_value_info(name, kind, shape))

    def splice(self, other: GraphProto) -> None:
        """Add the nodes and constants of another graph, whose names are none of this one's."""
        self._nodes.extend(other.node)
        self._constants.extend(other.initializer)

    def build(self, metadata: Mapping[str, str]) -> ModelProto:
        """Return the whole model."""
        from onnx import helper

        graph = helper.make_graph(self._nodes, "distbp", self._inputs, self._outputs, self._constants)
        domains = {"": self.opset} | {node.domain: ML_OPSET for node in self._nodes if node.domain}
        opsets = [helper.make_opsetid(domain, version) for domain, version in domains.items()]
        model = helper.make_model(graph, producer_name="distbp", opset_imports=opsets, ir_version=_IR_VERSION)
        helper.set_model_props(model, dict(metadata))
        return model
