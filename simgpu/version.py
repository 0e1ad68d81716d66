"""The version of the package, for provenance and for the packaging."""

__version__ = "0.2.0"
