"""Kubeflow Pipelines, by its API v2beta1 (https://www.kubeflow.org/docs/components/pipelines/reference/api/).

`engine` has the steps, `api` the calls and `wire` their shapes, `reference` finds what a pipeline's names stand for,
`observing` puts what Kubeflow says of a run into our words.
"""

from pipeline_bridge.engines.kubeflow.engine import Kubeflow

__all__ = ["Kubeflow"]
