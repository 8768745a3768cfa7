"""One process beside each local run: it starts the command, keeps the end of its output, ends it, and records how it ended.

    python -m pipeline_bridge.supervisor <folder of the run>

It outlives the bridge that started it, so that runs do. There is one per run, so it has to stay small: it imports some of
the standard library, and nothing else of this project.
"""
