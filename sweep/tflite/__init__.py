"""The `.tflite` file: written, rewritten, read, run and measured."""
