"""`delivery`: one verb per module; each declares its arguments and runs."""

from __future__ import annotations

import argparse
import importlib
import sys
from typing import TYPE_CHECKING

from handler_delivery import __doc__ as description, __version__
from handler_delivery.errors import DeliveryError

if TYPE_CHECKING:
    from collections.abc import Sequence

VERBS: dict[str, tuple[str, str]] = {
    "images": ("images.build", "build the images, start each and check it"),
    "push": ("images.push", "send the images to a registry"),
    "manifests": ("manifests", "render every overlay of deploy/ and check each object"),
    "affected": ("affected", "the services whose image a change decides, as a matrix"),
    "tag": ("tags", "the tag of the images of this commit"),
    "release": ("release", "version, changelog, tag"),
    "wheels": ("wheels", "build the wheels of the shared packages"),
    "publish": ("publish", "upload the wheels to the package registry"),
    "notify": ("notify", "tell ntfy how a run ended"),
}
"""Verb → the module that has `add_arguments(parser)` and `run(options) -> int`, and one line of help."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a verb; returns the exit code: 1 when a check failed, 2 when it could not be made.

    Only the module of the verb is imported, so that those which need nothing but Python run where nothing is installed.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(prog="delivery", description=description)
    parser.add_argument("--version", action="version", version=f"delivery {__version__}")
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    for verb, (module, text) in VERBS.items():
        if given[:1] == [verb]:
            room = importlib.import_module(f"handler_delivery.{module}")
            sub = verbs.add_parser(verb, help=text, description=room.__doc__)
            room.add_arguments(sub)
            sub.set_defaults(run=room.run)
        else:
            verbs.add_parser(verb, help=text)
    options = parser.parse_args(given)
    try:
        return options.run(options)
    except DeliveryError as error:
        sys.stderr.write(f"delivery: {error}\n")
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
