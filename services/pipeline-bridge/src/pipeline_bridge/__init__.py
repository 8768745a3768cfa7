"""Starts and follows Argo, Kubeflow and local pipelines from NATS, exactly once."""

__version__ = "0.1.0"
