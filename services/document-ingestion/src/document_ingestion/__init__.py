"""Fills the knowledge base: files, folders and pages into chunks, vectors and the vector store."""

__version__ = "0.1.0"
