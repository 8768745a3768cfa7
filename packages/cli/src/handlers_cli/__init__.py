"""The command `handlers`: ask and talk to the services, run pipelines, watch the traffic, run the local stack."""

__version__ = "0.1.0"
