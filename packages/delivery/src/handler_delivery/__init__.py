"""From the workspace to a cluster: images, their sizes, manifests, releases."""

__version__ = "0.1.0"
