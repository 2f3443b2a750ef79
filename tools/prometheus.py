#!/usr/bin/env python3
"""Prints the path of the Prometheus to test with: $PROMETHEUS; one on the PATH; or Debian's in .build, fetched once. Nothing is installed, and nobody need be root."""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

from wheel import BUILD, place

INSTEAD = "set $PROMETHEUS to a Prometheus of at least 2.42 to do without"


def fail(why):
    """Ends the program: what went wrong, and what to do instead."""
    sys.exit(f"get Prometheus: {why}; {INSTEAD}")


def main():
    """Finds or fetches, in the order above."""
    print(named() or on_path() or earlier() or fetched())


def named():
    """The Prometheus of $PROMETHEUS. If it is not there that is an error: another one would not be what was asked for."""
    name = os.environ.get("PROMETHEUS")
    if not name:
        return None
    path = shutil.which(name)
    if not path:
        sys.exit(f"get Prometheus: $PROMETHEUS is {name}, which is no program")
    return os.path.abspath(path)


def on_path():
    """A Prometheus on the PATH."""
    path = shutil.which("prometheus")
    return path and os.path.abspath(path)


def earlier():
    """The one that an earlier run fetched."""
    return max(BUILD.glob("prometheus/*/prometheus"), default=None)


def fetched():
    """Debian's, as apt on this machine knows it: apt compares it with what Debian has signed."""
    for tool in "apt-get", "dpkg-deb":
        if not shutil.which(tool):
            fail(f"it is taken from Debian, and there is no {tool} here")
    BUILD.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=BUILD, prefix="prometheus-") as name:
        folder = pathlib.Path(name)
        package = download(folder)
        run("dpkg-deb", "-x", package, folder / "content", cwd=folder) or fail(f"{package.name} could not be unpacked")
        target = BUILD / "prometheus" / package.name.split("_")[1] / "prometheus"
        target.parent.mkdir(parents=True, exist_ok=True)
        place(folder / "content" / "usr" / "bin" / "prometheus", target)
    return target


def download(folder):
    """Asks apt by the lists that the machine has and then, should they be missing or old, by newer ones that are kept apart."""
    print("fetching Prometheus from Debian", file=sys.stderr)
    # apt would let another user write, who may not do so here.
    options = ["-qq", "-o", "APT::Sandbox::User=root"]
    if not run("apt-get", *options, "download", "prometheus", cwd=folder):
        for part in "state/lists/partial", "cache/archives/partial":
            (folder / part).mkdir(parents=True)
        options += ["-o", f"Dir::State={folder}/state", "-o", f"Dir::Cache={folder}/cache"]
        if not (run("apt-get", *options, "update", cwd=folder) and run("apt-get", *options, "download", "prometheus", cwd=folder)):
            fail("apt-get could not download it")
    packages = list(folder.glob("prometheus_*.deb"))
    return packages[0] if packages else fail("apt-get downloaded nothing")


def run(*command, cwd):
    """Runs a command, whose words go to our standard error, and tells whether it succeeded."""
    return subprocess.run(command, cwd=cwd, stdout=sys.stderr, check=False).returncode == 0


if __name__ == "__main__":
    main()
