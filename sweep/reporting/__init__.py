"""Tables, plots, the report and the model card."""
