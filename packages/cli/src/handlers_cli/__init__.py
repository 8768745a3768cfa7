"""The command `handlers`: ask and talk to the services, watch their traffic, run the local stack."""

__version__ = "0.1.0"
