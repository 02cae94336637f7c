"""Check a `.tflite` file without any code of the project: accuracy, size, and the zeros in its weights.

    python tests/independent.py MODEL.tflite DATA.npz [--split test]     DATA holds x_test, y_test (or those of another split)
    python tests/independent.py MODEL.tflite --digits                    scikit-learn's digits; the last 360 of the 1,797

Prints JSON. The input is pixels divided by 255, quantised with the parameters of the input tensor for an integer network.
Weights are read through the interpreter. It does not distinguish INT4 from INT8, so the types are read from the flatbuffer
directly (https://flatbuffers.dev/internals, fields numbered as in TensorFlow's schema.fbs).
"""

import argparse
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType

OPERATORS = {3: "CONV_2D", 4: "DEPTHWISE_CONV_2D", 9: "FULLY_CONNECTED"}
DEQUANTIZE, DENSIFY = 6, 124
TYPES = {0: "FLOAT32", 1: "FLOAT16", 2: "INT32", 3: "UINT8", 7: "INT16", 9: "INT8", 17: "INT4"}


class Table:
    """A flatbuffer table: field number to value, straight from the bytes."""

    def __init__(self, data: bytes, position: int) -> None:
        self.data, self.position = data, position

    def where(self, field: int) -> int | None:
        vtable = self.position - struct.unpack_from("<i", self.data, self.position)[0]
        (length,) = struct.unpack_from("<H", self.data, vtable)
        offset = struct.unpack_from("<H", self.data, vtable + 4 + 2 * field)[0] if 4 + 2 * field < length else 0
        return self.position + offset if offset else None

    def scalar(self, field: int, code: str) -> Any:
        where = self.where(field)
        return 0 if where is None else struct.unpack_from("<" + code, self.data, where)[0]

    def vector(self, field: int, code: str) -> tuple[Any, ...]:
        where = self.where(field)
        if where is None:
            return ()
        start = where + struct.unpack_from("<I", self.data, where)[0]
        (count,) = struct.unpack_from("<I", self.data, start)
        return struct.unpack_from(f"<{count}{code}", self.data, start + 4)

    def tables(self, field: int) -> list["Table"]:
        where = self.where(field)
        if where is None:
            return []
        start = where + struct.unpack_from("<I", self.data, where)[0] + 4
        return [Table(self.data, start + 4 * number + offset) for number, offset in enumerate(self.vector(field, "I"))]


def stored_bytes(model: Table, index: int) -> bytes:
    """The bytes of a buffer, which lie inside it or at an offset from the start of the file."""
    buffer = model.tables(4)[index]
    offset, size = buffer.scalar(1, "Q"), buffer.scalar(2, "Q")
    return model.data[offset : offset + size] if offset > 1 else bytes(buffer.vector(0, "B"))


def nibbles(data: bytes, count: int) -> Any:
    """Signed 4-bit integers, the low half of each byte first."""
    values = [half for byte in data for half in (byte & 15, byte >> 4)]
    return np.array([value - 16 if value > 7 else value for value in values[:count]])


def weights(content: bytes) -> list[dict[str, Any]]:
    """Name, operator, type, shape, zeros and number of different values of each weight tensor, in order."""
    interpreter = Interpreter(
        model_content=content,
        experimental_preserve_all_tensors=True,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    interpreter.allocate_tensors()
    details = {detail["index"]: detail for detail in interpreter.get_tensor_details()}
    model = Table(content, struct.unpack_from("<I", content, 0)[0])
    graph = model.tables(2)[0]
    tensors, operators = graph.tables(0), graph.tables(3)
    codes = [max(code.scalar(0, "b"), code.scalar(3, "i")) for code in model.tables(1)]
    interpreter.invoke()  # restores sparse tensors
    code_of = [codes[operator.scalar(0, "I")] for operator in operators]
    restored = {
        operator.vector(2, "i")[0]: operator.vector(1, "i")[0]
        for operator, code in zip(operators, code_of, strict=True)
        if code == DEQUANTIZE
    }
    restored_dense = {operator.vector(2, "i")[0] for operator, code in zip(operators, code_of, strict=True) if code == DENSIFY}
    kernels = {}
    for operator, code in zip(operators, code_of, strict=True):
        if code not in OPERATORS:
            continue
        index = operator.vector(1, "i")[1]
        index = restored.get(index, index)
        tensor, detail = tensors[index], details[index]
        kind, shape = TYPES[tensor.scalar(1, "b")], [int(length) for length in detail["shape"]]
        packed = stored_bytes(model, tensor.scalar(2, "I"))
        if not packed and index not in restored_dense:
            continue
        values = nibbles(packed, int(np.prod(shape))).reshape(shape) if kind == "INT4" else interpreter.get_tensor(index)
        parameters = detail["quantization_parameters"]
        points = parameters["zero_points"]
        if len(points):
            axis = parameters["quantized_dimension"]
            per_channel = len(points) > 1
            broadcast_shape = [-1 if per_channel and dimension == axis else 1 for dimension in range(len(shape))]
            values = values.astype(np.int64) - points.reshape(broadcast_shape)
        kernels[index] = {
            "name": detail["name"],
            "operator": OPERATORS[code],
            "type": kind,
            "shape": shape,
            "zeros": int((values == 0).sum()),
            "values": len(np.unique(values)),
        }
    return list(kernels.values())


def accuracy(content: bytes, images: Any, labels: Any) -> float:
    """Top-1 in [0, 1], image by image."""
    interpreter = Interpreter(model_content=content, num_threads=1)
    interpreter.allocate_tensors()
    (input_details,), (output_details,) = interpreter.get_input_details(), interpreter.get_output_details()
    correct = 0
    for image, label in zip(images, labels, strict=True):
        pixels = image[None].astype(np.float32) / 255
        if input_details["dtype"] == np.int8:
            scale, zero_point = input_details["quantization"]
            pixels = np.clip(np.round(pixels / scale + zero_point), -128, 127).astype(np.int8)
        interpreter.set_tensor(input_details["index"], pixels)
        interpreter.invoke()
        correct += int(np.argmax(interpreter.get_tensor(output_details["index"])[0]) == label)
    return correct / len(labels)


def digits() -> tuple[Any, Any]:
    """Images uint8 (360, 8, 8, 1) and labels (360,) of the digits test split."""
    from sklearn.datasets import load_digits

    data = load_digits()
    return np.round(data.images[-360:, :, :, None] * 255 / 16).astype(np.uint8), data.target[-360:]


def main() -> None:
    parser = argparse.ArgumentParser(description="Recompute accuracy, size and zeros of a .tflite file from the file alone.")
    parser.add_argument("model")
    parser.add_argument("data", nargs="?", help=".npz with x_SPLIT (uint8 images) and y_SPLIT (labels)")
    parser.add_argument("--split", default="test")
    parser.add_argument("--digits", action="store_true", help="use scikit-learn's digits instead of DATA.npz")
    arguments = parser.parse_args()
    if arguments.digits == bool(arguments.data):
        parser.error("give either DATA.npz or --digits")
    content = Path(arguments.model).read_bytes()
    if arguments.digits:
        images, labels = digits()
    else:
        with np.load(arguments.data, allow_pickle=False) as data:
            images, labels = data[f"x_{arguments.split}"], data[f"y_{arguments.split}"].ravel()
    images = images if images.ndim == 4 else images[..., None]
    report = {"accuracy": accuracy(content, images, labels), "size_bytes": len(content), "weights": weights(content)}
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
