"""Look inside: where a detector reads, which location learns which box, how a run went."""
