"""Writes down what people say in a session: voice activity, transcriptions while they speak, barge-in."""

__version__ = "0.1.0"
