"""Shapes: inside the profiles and at their corners, one after the other, outside of them, and as data decide."""
