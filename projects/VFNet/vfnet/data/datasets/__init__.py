"""Data sets: own data in COCO's format, Pascal VOC folders, the embedded shapes."""
