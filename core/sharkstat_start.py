"""The first lines of the command, beside the package, which takes a while to load: Ctrl-C is no traceback even then."""

import gc
import sys


def main() -> None:
    """Run the command."""
    gc.disable()  # nothing that is loaded becomes garbage; the command switches it on again
    try:
        from sharkstat.commands.cli import main as run
    except KeyboardInterrupt:
        sys.stderr.write("sharkstat: interrupted\n")
        sys.exit(130)
    run()
