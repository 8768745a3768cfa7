"""The command `handlers`: ask the services, watch their traffic, run the local stack."""

__version__ = "0.1.0"
