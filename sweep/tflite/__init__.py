"""The `.tflite` file. `convert` writes it, `litert` runs it, `audit` counts what it has, and `benchmark` measures it.

`requantize` writes kernels of 2 to 8 bits, `calibrate` the activation ranges, `minimize` shrinks a file, `expectations` checks
it, and `schema`, `flatbuffer` and `weight_storage` read and write the format.
"""
