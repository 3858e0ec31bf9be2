"""A trained network as a file that others read: an ONNX graph, safetensors, or the configuration it came from.

`to_onnx` takes any `distbp.prediction.network.Network`: that of a run, or of a fitted estimator (`model.network_`).
"""

from distbp.export.files import FORMATS, export_run
from distbp.export.module_graph import MODULE_OPSET
from distbp.export.onnx_graph import OPSET, to_onnx

__all__ = ["FORMATS", "MODULE_OPSET", "OPSET", "export_run", "to_onnx"]
