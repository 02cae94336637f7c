"""Quantisation. `ptq`, `qat` and `formats` have the choices of the `quant` group; `rounding` rounds a kernel to its grid.

`clipping` has the clipping thresholds, `integer` what PTQ and QAT share, `fake_quant` the wrapped network of QAT, and
`bit_search`, `mixed_precision` and `bit_budgets` the search for the bits of each layer.
"""
