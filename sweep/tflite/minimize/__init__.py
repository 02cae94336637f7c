"""Makes a `.tflite` file smaller without changing what it computes. Start with `smallest` or `anyfile`.

- `smallest`: minimises a file of this project and compares its outputs. `anyfile`: does so for a file of any origin.
- `lossless`: rewrites a file in fewer bytes, which `difference` verifies. `redundant` and `names` remove unused content,
  `parts` merges equal tables and vectors, `serialise` lays them out.
- `sparse`: stores kernels as sparse tensors, on request.
"""
