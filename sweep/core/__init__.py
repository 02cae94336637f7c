"""What every package may use: types, validation, protocols, files."""
