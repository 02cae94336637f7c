"""The methods of compression, a package each."""
