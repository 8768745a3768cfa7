"""The runtime that every handler service stands on; see `docs/architecture.md` for its rooms.

Importing this package imports nothing else: take what you need from the rooms.
"""
