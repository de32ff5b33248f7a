"""How well a detector does: scores, test-time augmentation, submissions, the oracle study."""
