"""Refits: weights replaced in an engine that is there, to other numbers and back again, in every way that there is."""
