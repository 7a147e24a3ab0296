"""What happened, and what was expected: records, known failures, baselines."""
