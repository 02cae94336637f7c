"""The methods of compression, a package each: `distill`, `prune`, `cluster` and `quantize`."""
