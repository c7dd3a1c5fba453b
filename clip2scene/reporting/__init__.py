"""Tables and pictures: what people read of finished runs."""
