"""The part of TFLite's schema.fbs (version 3) that we write: field -> (slot, type) of each table, and enumerators.
Files in the field depend on these numbers, so they never change."""

from __future__ import annotations

from typing import Final

from transfer.flatbuffer import Schema

VERSION: Final = 3
IDENTIFIER: Final = b"TFL3"

TABLES: Final[Schema] = {
    "Model": {
        "version": (0, "Uint32"),
        "operator_codes": (1, "Offset"),
        "subgraphs": (2, "Offset"),
        "description": (3, "Offset"),
        "buffers": (4, "Offset"),
    },
    "OperatorCode": {"deprecated_builtin_code": (0, "Int8"), "version": (2, "Int32"), "builtin_code": (3, "Int32")},
    "SubGraph": {
        "tensors": (0, "Offset"),
        "inputs": (1, "Offset"),
        "outputs": (2, "Offset"),
        "operators": (3, "Offset"),
        "name": (4, "Offset"),
    },
    "Tensor": {
        "shape": (0, "Offset"),
        "type": (1, "Int8"),
        "buffer": (2, "Uint32"),
        "name": (3, "Offset"),
        "quantization": (4, "Offset"),
        "shape_signature": (7, "Offset"),
    },
    "Buffer": {"data": (0, "Offset")},
    "QuantizationParameters": {
        "scale": (2, "Offset"),
        "zero_point": (3, "Offset"),
        "quantized_dimension": (6, "Int32"),
    },
    "Operator": {
        "opcode_index": (0, "Uint32"),
        "inputs": (1, "Offset"),
        "outputs": (2, "Offset"),
        "builtin_options_type": (3, "Uint8"),
        "builtin_options": (4, "Offset"),
    },
    "Conv2DOptions": {
        "padding": (0, "Int8"),
        "stride_w": (1, "Int32"),
        "stride_h": (2, "Int32"),
        "fused_activation_function": (3, "Int8"),
    },
    "DepthwiseConv2DOptions": {
        "padding": (0, "Int8"),
        "stride_w": (1, "Int32"),
        "stride_h": (2, "Int32"),
        "depth_multiplier": (3, "Int32"),
        "fused_activation_function": (4, "Int8"),
    },
    "FullyConnectedOptions": {"fused_activation_function": (0, "Int8")},
    "AddOptions": {"fused_activation_function": (0, "Int8")},
    "PadOptions": {},
    "ReshapeOptions": {},
    "ConcatenationOptions": {"axis": (0, "Int32"), "fused_activation_function": (1, "Int8")},
    "Pool2DOptions": {
        "padding": (0, "Int8"),
        "stride_w": (1, "Int32"),
        "stride_h": (2, "Int32"),
        "filter_width": (3, "Int32"),
        "filter_height": (4, "Int32"),
        "fused_activation_function": (5, "Int8"),
    },
    "ReducerOptions": {"keep_dims": (0, "Bool")},
}

# BuiltinOperator -> its number, and the table of its options with that table's number in the union BuiltinOptions.
OPERATORS: Final[dict[str, tuple[int, str, int]]] = {
    "ADD": (0, "AddOptions", 11),
    "AVERAGE_POOL_2D": (1, "Pool2DOptions", 5),
    "CONCATENATION": (2, "ConcatenationOptions", 10),
    "CONV_2D": (3, "Conv2DOptions", 1),
    "DEPTHWISE_CONV_2D": (4, "DepthwiseConv2DOptions", 2),
    "FULLY_CONNECTED": (9, "FullyConnectedOptions", 8),
    "MAX_POOL_2D": (17, "Pool2DOptions", 5),
    "RESHAPE": (22, "ReshapeOptions", 17),
    "PAD": (34, "PadOptions", 22),
    "MEAN": (40, "ReducerOptions", 27),
}
TENSOR_TYPES: Final = {"float32": 0, "int32": 2, "int8": 9}
PADDING: Final = {"SAME": 0, "VALID": 1}
ACTIVATION: Final = {"NONE": 0, "RELU": 1}
