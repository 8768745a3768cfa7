"""Answers chat messages from NATS: history, retrieval, a streamed answer with sources."""

__version__ = "0.1.0"
