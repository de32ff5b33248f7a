"""Augmentations that Detectron2 lacks, built from INPUT."""
