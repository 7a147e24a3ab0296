"""Runtimes: one protocol, and what speaks it."""
