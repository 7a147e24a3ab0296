"""The tests of TensorRT and of models on it: ``pytest --pyargs suites``."""
