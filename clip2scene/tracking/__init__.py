"""MLflow, the mirror of the run files: finished runs are sent to it, and tables never read it."""
