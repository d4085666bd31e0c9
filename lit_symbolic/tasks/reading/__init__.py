"""Public data files and data sets on the hub, read in their own formats."""
