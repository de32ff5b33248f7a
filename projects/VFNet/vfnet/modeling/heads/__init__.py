"""The detectors' heads, a file each, and the towers that they share. No loss in them."""
