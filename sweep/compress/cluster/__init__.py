"""Weight clustering. `kmeans` has the stage."""
