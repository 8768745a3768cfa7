"""Speaks text from NATS: sentence by sentence, in built-in and custom voices."""

__version__ = "0.1.0"
