"""The runtime that every handler service stands on; see `docs/architecture.md` for its rooms.

Importing this package imports nothing else: take what you need from the rooms. It makes the garbage collector patient
while a process starts; `process.run` brings it back. See docs/decisions/0005-start-up.md.
"""

import gc

COLLECT_AFTER = gc.get_threshold()
"""When the collector looks for cycles, as the interpreter has it."""

gc.set_threshold(max(50_000, COLLECT_AFTER[0]), *COLLECT_AFTER[1:])
