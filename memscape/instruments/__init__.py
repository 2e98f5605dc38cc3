"""What looks into a model: capture, radius, energy, loss, and their nulls."""
