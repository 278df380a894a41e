"""The version, in one place for the code; pyproject.toml holds the same."""

__version__ = "0.1.0"
