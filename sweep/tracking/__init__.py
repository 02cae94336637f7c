"""Logging of sweeps and trials to MLflow. Start in `mlflow`, whose class makes every call to MLflow in order.

`tracker` has the protocol and the tracker that logs nothing, `backend`, `database` and `experiment` open MLflow's store,
`payload` converts a record to MLflow's terms, and `models` logs MLflow models.
"""
