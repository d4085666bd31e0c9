"""What makes problems where there are no data."""
