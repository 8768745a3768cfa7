"""What a conversation needs beside the model: history, retrieval, prompt, and the way to speech.

The messages come with `messaging`, which loads them without what nobody uses: docs/decisions/0005-start-up.md.
"""

import handler_base.messaging  # noqa: F401  # pyright: ignore[reportUnusedImport]
