"""Starts the command. Outside the package, which takes a while to load, so that Ctrl-C never shows a traceback."""

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
