"""Talks: speech in, an answer with sources out as speech, before the answer is complete."""

__version__ = "0.1.0"
