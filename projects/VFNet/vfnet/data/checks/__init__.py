"""What is wrong with a data set, found before a run and said in one line."""
