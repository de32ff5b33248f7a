"""What the scripts here and tools/benchmark.py share: timing, memory, models, tables."""
