"""The `.tflite` file. Start with `convert`, which writes it, `litert`, which runs it, and `audit`, which counts its weights.

`benchmark` measures accuracy and latency; `tflm` and `vela` measure on other runtimes. `calibrate` writes activation ranges,
`requantize` kernels of 2 to 8 bits, and `minimize` shrinks a file. `expectations` compares a file with its configuration. The
format is read and written by `schema`, `flatbuffer` and `weight_storage`.
"""
