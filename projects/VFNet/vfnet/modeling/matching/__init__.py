"""Which location learns which ground truth."""
