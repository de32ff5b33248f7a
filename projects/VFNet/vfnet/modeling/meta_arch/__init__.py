"""The detectors, a file each, and what they share."""
