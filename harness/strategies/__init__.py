"""Hypothesis strategies: bindings inside optimization profiles."""
