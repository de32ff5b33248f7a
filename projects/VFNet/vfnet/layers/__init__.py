"""Convolutions that Detectron2 lacks, and faster forms of its own."""
