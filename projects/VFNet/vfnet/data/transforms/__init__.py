"""Augmentations that Detectron2 lacks, built from INPUT.

Another one is a file here, such as cutout.py; its keys stand in config/keys.py, and its place among
the others in `build_mapper` of data/mapper.py.
"""
