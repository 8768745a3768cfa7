"""Clients of the inference endpoints and of the vector store, one module per HTTP contract."""
