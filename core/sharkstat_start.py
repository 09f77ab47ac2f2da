"""The first lines of the command, beside the package, which takes a while to load: Ctrl-C is no traceback even then."""

import sys


def main() -> None:
    """Run the command."""
    try:
        from sharkstat.commands.cli import main as run
    except KeyboardInterrupt:
        sys.stderr.write("sharkstat: interrupted\n")
        sys.exit(130)
    run()
