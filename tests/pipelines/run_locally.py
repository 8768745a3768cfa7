"""Runs a compiled pipeline with Kubeflow's own local engine, in the environment that compiles it; not a test by itself.

    python run_locally.py <pipeline.yaml> <folder for artifacts> <arguments as JSON>

The engine works out order, inputs, outputs and retries; each step is a process of this machine with the very command of
its container. Its SubprocessRunner is made for components that bring the SDK along. So it is told two things here: that Python
is all that our containers need, and that an artifact is what a container left at the artifact's path, as in a cluster.
The last line of output holds the pipeline's outputs.
"""

import json
import sys

from kfp import components, local
from kfp.local import executor_output_utils
from kfp.local.subprocess_task_handler import SubprocessTaskHandler

outputs_that_were_told = executor_output_utils.get_outputs_from_executor_output


def outputs_that_are_there(executor_output, executor_input, component_spec):
    """Return the outputs of a step, its artifacts among them."""
    for name, artifacts in executor_input.outputs.artifacts.items():
        executor_output.artifacts[name].CopyFrom(artifacts)
    return outputs_that_were_told(executor_output, executor_input, component_spec)


def main() -> None:
    """Run it."""
    file, folder, arguments = sys.argv[1:]
    SubprocessTaskHandler.validate_not_container_component = lambda *_: None
    executor_output_utils.get_outputs_from_executor_output = outputs_that_are_there
    local.init(runner=local.SubprocessRunner(use_venv=False), pipeline_root=folder, raise_on_error=True)
    task = components.load_component_from_file(file)(**json.loads(arguments))
    outputs = {
        name: value if isinstance(value, str | int | float | list | dict) else value.path
        for name, value in task.outputs.items()
    }
    print(json.dumps(outputs))


if __name__ == "__main__":
    main()
