"""Loads the plugin in a checkout that is not installed; nothing more."""

pytest_plugins = ["harness.pytest_plugin"]
