"""Commands that a user can copy."""

import os
import shlex
import subprocess
from collections.abc import Iterable


def command_line(words: Iterable[object]) -> str:
    """A command with quotes where the shell of this system needs them."""
    join = shlex.join if os.name == "posix" else subprocess.list2cmdline
    return join(list(map(str, words)))
