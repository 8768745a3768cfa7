"""Clients of the inference endpoints: their HTTP contracts in types. Each module is imported by who needs it."""
