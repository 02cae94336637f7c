"""Where sweeps and trials are logged: in MLflow, or nowhere."""
