"""What can go wrong on the way to a cluster, in words for the person at the terminal."""

from __future__ import annotations


class DeliveryError(Exception):
    """A step could not be made; the message says why and what to do."""
