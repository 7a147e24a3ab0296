"""Arrays in, verdict out: inputs, precision recipes, the oracle, tolerances, comparison.

Nothing here knows a vendor: the oracle is handed the callable that runs it.
"""
