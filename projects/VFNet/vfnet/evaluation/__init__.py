"""How well a detector does: scores, submissions, the oracle study."""
