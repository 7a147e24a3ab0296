"""Numbers: against the oracle, at special values, and by relations that need no oracle."""
