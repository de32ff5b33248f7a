"""A detector as a file for another runtime, and that file as a detector."""

from .exported import ExportedDetector, load_exported

__all__ = ["ExportedDetector", "load_exported"]
