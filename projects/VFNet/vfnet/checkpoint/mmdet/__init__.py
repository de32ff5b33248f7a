"""Checkpoints of mmdet: its names, its files, and the path `mmdet:`."""
