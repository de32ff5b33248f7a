"""The parts of `vfnet.visualization`."""
