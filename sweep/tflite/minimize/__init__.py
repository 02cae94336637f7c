"""Makes a `.tflite` file smaller without changing what it computes.

- `smallest`: the entry for a file that was made here; `anyfile`: for a file from anywhere, which may not even run here.
- `lossless`: one file made of what a file needs, proved to be the same by `difference`. `redundant`, `names` leave things out,
  `parts` finds what is equal, `serialise` writes it.
- `sparse`: kernels stored by their nonzero weights, on request.
"""
