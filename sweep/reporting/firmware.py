"""A model as C and C++ source for TensorFlow Lite Micro (TFLM): its bytes, its operators, and a program that checks it.

The generated code uses the public headers of TFLM: https://github.com/tensorflow/tflite-micro.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sweep.core.trial_files import TrialFile
from sweep.core.types import Array
from sweep.results.examples import Example
from sweep.tflite.tflm_kernels import Needs, Tensor, method

MODEL = TrialFile.MODEL.value
HEADER, RESOLVER, EXAMPLE, MAIN = "model.h", "resolver.h", "example.h", "main.cc"
_ALIGNMENT = 16
_SPARE = 256  # for alignment, and for the small differences between versions of TFLM


@dataclass(frozen=True)
class _Element:
    """How C++ and TFLM name the elements of a tensor.

    Attributes:
        dtype: numpy's type.
        name: the type in C++.
        enumerator: TFLM's name of it.
        member: of the union with a tensor's data.
        tolerance: the largest accepted difference between TFLM and LiteRT, in quantisation steps; for floats relative to the
            largest score, or absolute where that is below 1.
        reason: the tolerance in words.
    """

    dtype: type[np.generic]
    name: str
    enumerator: str
    member: str
    tolerance: float
    reason: str


# The tolerances lie above what 360 images through each of five networks showed: 4 steps, 5 steps, 1e-6.
_ELEMENTS: Mapping[str, _Element] = {
    "INT8": _Element(np.int8, "std::int8_t", "kTfLiteInt8", "int8", 4, "4 quantisation steps"),
    "INT16": _Element(np.int16, "std::int16_t", "kTfLiteInt16", "i16", 32, "32 of the 65,536 quantisation steps"),
    "FLOAT32": _Element(np.float32, "float", "kTfLiteFloat32", "f", 1e-4, "0.0001, or as much of the largest score"),
}


@dataclass(frozen=True)
class Arena:
    """The memory that TFLM's interpreter gets, its tensor arena.

    Attributes:
        measured: bytes that it used on the machine of the sweep.
        margin: bytes added to them.
    """

    measured: int
    margin: int

    @staticmethod
    def of(measured: int, needs: Needs) -> Arena:
        """The memory that was measured, what planning takes beyond it, and 256 bytes; rounded up to a multiple of 16."""
        wanted = measured + needs.planning_bytes + _SPARE
        return Arena(measured, -(-wanted // _ALIGNMENT) * _ALIGNMENT - measured)

    @property
    def size(self) -> int:
        """Bytes in all."""
        return self.measured + self.margin


@dataclass(frozen=True)
class Sources:
    """The source files of a model.

    Attributes:
        texts: file name to its text.
        absent: the files that cannot be written, by name, with the reason.
        arena: the memory of the interpreter; None where that is not known.
        tolerance: the largest accepted difference of the example's output, in words; empty without an example.
    """

    texts: Mapping[str, str]
    absent: Mapping[str, str]
    arena: Arena | None
    tolerance: str


def sources(
    content: bytes, needs: Needs, arena_bytes: int | None, example: Example | None, class_names: Sequence[str] = ()
) -> Sources:
    """Every source file that can be written of a model.

    Args:
        content: the bytes of the `.tflite` file.
        needs: its requirements on TFLM.
        arena_bytes: what TFLM was seen to use for it; None where TFLM did not run it.
        example: an image and the file's output; None without one.
        class_names: the names of the classes in the order of the scores; empty where they have none but their numbers.

    Raises:
        ValueError: for an example that is not of the size or the classes of the file.
    """
    texts = {HEADER: header(content, class_names)}
    if needs.missing:
        reason = f"TensorFlow Lite Micro has no kernel for {', '.join(needs.missing)}"
    elif arena_bytes is None:
        reason = (
            "the trial's records have no `arena_bytes`: TensorFlow Lite Micro did not run the file (it runs no float16 and no"
            " dynamic-range file), or the sweep is older than the metric"
        )
    else:
        arena = Arena.of(arena_bytes, needs)
        texts[RESOLVER] = resolver(content, needs.operators, arena)
        untried = _untried(needs, example)
        if example is None or untried:
            return Sources(texts, dict.fromkeys((EXAMPLE, MAIN), untried), arena, "")
        source, target = needs.inputs[0], needs.outputs[0]
        texts |= {EXAMPLE: example_header(example, source, target), MAIN: main(source, target, named=bool(class_names))}
        return Sources(texts, {}, arena, _ELEMENTS[target.type].reason)
    return Sources(texts, dict.fromkeys((RESOLVER, EXAMPLE, MAIN), reason), None, "")


def _untried(needs: Needs, example: Example | None) -> str:
    """The reason why there is no program that checks the model; empty where there is one."""
    tensors = (*needs.inputs, *needs.outputs)
    if len(needs.inputs) != 1 or len(needs.outputs) != 1:
        return "the file has more than one input or output"
    if not all(tensor.type in _ELEMENTS for tensor in tensors):
        return f"the file takes and gives {' and '.join(tensor.type for tensor in tensors)}"
    if example is None:
        return (
            "the trial left no `example.json`: none of the first test images is classified correctly, or the sweep is older"
            " than that record"
        )
    return ""


def header(content: bytes, class_names: Sequence[str] = ()) -> str:
    """A file as a C header that C11 and C++17 take.

    It has `model_tflite`, aligned as TFLM asks, and its length `model_tflite_len`. Where the classes have names, these are in
    `model_class_names`, in UTF-8, and their number is `model_classes`.
    """
    return f"""\
/* {_title(content)} */
#ifndef SWEEP_MODEL_TFLITE_H
#define SWEEP_MODEL_TFLITE_H

#ifndef __cplusplus
#include <stdalign.h>
#endif

enum {{ model_tflite_len = {len(content)} }};

alignas({_ALIGNMENT}) static const unsigned char model_tflite[model_tflite_len]
#ifdef __GNUC__
    __attribute__((unused))
#endif
    = {{
{_rows(f"0x{byte:02x}" for byte in content)}
}};
{_names(class_names)}
#endif /* SWEEP_MODEL_TFLITE_H */
"""


def _names(class_names: Sequence[str]) -> str:
    """The names of the classes in C; nothing where there are none."""
    if not class_names:
        return ""
    rows = "\n".join(f'    "{_escaped(name)}",' for name in class_names)
    return f"""
enum {{ model_classes = {len(class_names)} }};

/* In the order of the scores, in UTF-8. */
static const char* const model_class_names[model_classes]
#ifdef __GNUC__
    __attribute__((unused))
#endif
    = {{
{rows}
}};
"""


def _escaped(text: str) -> str:
    """The content of a C string literal. Other characters than plain ASCII become octal escapes of three digits."""
    plain = set(range(0x20, 0x7F)) - set(b'"\\?')  # ?? begins a trigraph
    return "".join(chr(byte) if byte in plain else f"\\{byte:03o}" for byte in text.encode(errors="surrogateescape"))


def resolver(content: bytes, operators: Iterable[str], arena: Arena) -> str:
    """A C++17 header with the operators of a file, and the size of its tensor arena.

    Args:
        content: the file's bytes.
        operators: those that it uses, each once and among `KERNELS`.
        arena: the memory of the interpreter.
    """
    methods = [method(operator) for operator in operators]
    adding = "\n".join(f"  if (resolver.{name}() != kTfLiteOk) return kTfLiteError;" for name in methods)
    return f"""\
// {_title(content)}: what TensorFlow Lite Micro needs to run it.
#ifndef SWEEP_MODEL_RESOLVER_H
#define SWEEP_MODEL_RESOLVER_H

#include <cstddef>

#include "tensorflow/lite/micro/micro_mutable_op_resolver.h"

// Bytes of the tensor arena: the {arena.measured} that the interpreter used on a 64-bit machine with its reference kernels, and
// a margin of {arena.margin} for its planning and for alignment. With pointers of 32 bits it needs less. Optimised kernels
// (CMSIS-NN, ESP-NN) ask for scratch memory of their own: {MAIN} prints what is used on the device.
constexpr std::size_t kTensorArenaSize = {arena.size};

using ModelOpResolver = tflite::MicroMutableOpResolver<{len(methods)}>;

// Adds exactly the operators that the file uses.
inline TfLiteStatus AddModelOperators(ModelOpResolver& resolver) {{
{adding}
  return kTfLiteOk;
}}

#endif  // SWEEP_MODEL_RESOLVER_H
"""


def example_header(example: Example, source: Tensor, target: Tensor) -> str:
    """A C++17 header with an image as the input tensor, and the output that LiteRT computes.

    Args:
        example: the image and the output.
        source: the input tensor of the file.
        target: the output tensor of the file.

    Raises:
        ValueError: for an image or an output of another size, or a label that is not the predicted class.
    """
    pixels, scores = _values("input", example.input, source), _values("output", example.output, target)
    if not np.isfinite(scores).all() or scores.argmax() != example.label:
        raise ValueError(f"label: expected {scores.argmax()}, the class of the output; received {example.label}")
    element = _ELEMENTS[target.type]
    tolerance = f"constexpr int kExampleTolerance = {element.tolerance}"
    if target.type == "FLOAT32":
        largest = max(1.0, float(np.abs(scores).max()))
        tolerance = f"constexpr float kExampleTolerance = {_literal(np.float32(element.tolerance * largest))}"
    return f"""\
// Image {example.number} of the test split, as the input of {MODEL}, and the output that LiteRT computes.
#ifndef SWEEP_EXAMPLE_H
#define SWEEP_EXAMPLE_H

#include <cstdint>

// The class of the image: the index of the largest score.
constexpr int kExampleLabel = {example.label};

constexpr {_ELEMENTS[source.type].name} kExampleInput[{source.elements}] = {{
{_rows(map(_literal, pixels))}
}};

constexpr int kExampleClasses = {target.elements};
constexpr {element.name} kExampleOutput[kExampleClasses] = {{
{_rows(map(_literal, scores))}
}};

// TensorFlow Lite Micro's kernels round differently from LiteRT's: a score may differ by {element.reason}.
{tolerance};

#endif  // SWEEP_EXAMPLE_H
"""


def main(source: Tensor, target: Tensor, *, named: bool = False) -> str:
    """A C++17 program that runs the model on the example and compares the output.

    Args:
        source: the input tensor of the file.
        target: the output tensor of the file.
        named: whether the header has the names of the classes.
    """
    name = (
        """
  MicroPrintf("that is: %s", model_class_names[best]);"""
        if named
        else ""
    )
    input_kind, output_kind = _ELEMENTS[source.type], _ELEMENTS[target.type]
    wide = "float" if target.type == "FLOAT32" else "int"
    return f"""\
// Classifies the image in {EXAMPLE} with TensorFlow Lite Micro and compares the scores with those that LiteRT gives.
// Returns 0 where the class is right and every score within the tolerance, or else 1.
#include <cstdint>
#include <cstring>

#include "{EXAMPLE}"
#include "{HEADER}"
#include "{RESOLVER}"
#include "tensorflow/lite/micro/micro_interpreter.h"
#include "tensorflow/lite/micro/micro_log.h"
#include "tensorflow/lite/micro/system_setup.h"
#include "tensorflow/lite/schema/schema_generated.h"

namespace {{

alignas({_ALIGNMENT}) std::uint8_t tensor_arena[kTensorArenaSize];

}}  // namespace

int main() {{
  tflite::InitializeTarget();

  const tflite::Model* model = tflite::GetModel(model_tflite);
  if (model->version() != TFLITE_SCHEMA_VERSION) {{
    MicroPrintf("schema version %d, expected %d", static_cast<int>(model->version()), TFLITE_SCHEMA_VERSION);
    return 1;
  }}

  ModelOpResolver resolver;
  if (AddModelOperators(resolver) != kTfLiteOk) {{
    MicroPrintf("an operator cannot be added");
    return 1;
  }}

  tflite::MicroInterpreter interpreter(model, resolver, tensor_arena, kTensorArenaSize);
  if (interpreter.AllocateTensors() != kTfLiteOk) {{
    MicroPrintf("the tensors cannot be allocated in %d bytes", static_cast<int>(kTensorArenaSize));
    return 1;
  }}
  MicroPrintf("arena: %d of %d bytes used", static_cast<int>(interpreter.arena_used_bytes()),
              static_cast<int>(kTensorArenaSize));

  TfLiteTensor* input = interpreter.input(0);
  if (input->type != {input_kind.enumerator} || input->bytes != sizeof(kExampleInput)) {{
    MicroPrintf("the example is not of the input's type and size");
    return 1;
  }}
  std::memcpy(input->data.{input_kind.member}, kExampleInput, sizeof(kExampleInput));

  if (interpreter.Invoke() != kTfLiteOk) {{
    MicroPrintf("the model cannot be run");
    return 1;
  }}

  const TfLiteTensor* output = interpreter.output(0);
  if (output->type != {output_kind.enumerator} || output->bytes != sizeof(kExampleOutput)) {{
    MicroPrintf("the example is not of the output's type and size");
    return 1;
  }}
  const {output_kind.name}* scores = output->data.{output_kind.member};
  int best = 0;
  bool close = true;
  for (int i = 0; i < kExampleClasses; ++i) {{
    if (scores[i] > scores[best]) best = i;
    const {wide} difference = static_cast<{wide}>(scores[i]) - static_cast<{wide}>(kExampleOutput[i]);
    if (!(difference <= kExampleTolerance && -difference <= kExampleTolerance)) close = false;
  }}
  MicroPrintf("class: %d, expected %d", best, kExampleLabel);{name}
  MicroPrintf("scores: %s", close ? "as expected" : "further from LiteRT's than the tolerance");
  return best == kExampleLabel && close ? 0 : 1;
}}
"""


def _title(content: bytes) -> str:
    return f"{MODEL}: {len(content)} bytes, sha256 {hashlib.sha256(content).hexdigest()}"


def _values(name: str, stored: bytes, tensor: Tensor) -> Array:
    """The elements of a tensor."""
    dtype = np.dtype(_ELEMENTS[tensor.type].dtype).newbyteorder("<")
    if len(stored) != (size := tensor.elements * dtype.itemsize):
        raise ValueError(f"{name}: expected the file's {size} bytes; received {len(stored)}")
    return np.frombuffer(stored, dtype)


def _literal(value: np.generic) -> str:
    """A number in C++; a float32 as its shortest text that reads back the same."""
    return f"{np.float32(value)!s}f" if isinstance(value, np.floating) else str(int(value))


def _rows(literals: Iterable[str]) -> str:
    """The elements of an array in rows of at most 16."""
    texts = list(literals)
    return "\n".join(f"    {', '.join(texts[start : start + 16])}," for start in range(0, len(texts), 16))
