"""Where the numbers and pictures of a run are written: Detectron2's event writers, and others."""
