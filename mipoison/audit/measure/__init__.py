"""Who holds which rows, how inputs are coded, and what adversaries make of vectors under each defense."""
