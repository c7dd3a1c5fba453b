"""Tables, pictures, and the MLflow mirror: what people read of finished runs."""
