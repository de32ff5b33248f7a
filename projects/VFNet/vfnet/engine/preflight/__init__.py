"""What can be known to be wrong before a run, found before anything is written."""
