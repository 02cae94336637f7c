"""The report of a sweep. Start in `report`, which writes all files; `markdown` has the order of the report's sections.

`picture` computes what `png` and `html` draw, `card` exports a model with its card, and `sensitivity` plots a network's
sensitivity.
"""
