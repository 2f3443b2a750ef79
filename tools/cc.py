#!/usr/bin/env python3
"""Prints the C compiler that the race detector needs, for Go's $CC: nothing where Go finds one by itself, else zig's, pinned and fetched once into .build."""

import os
import shutil

from wheel import BUILD, Wheel

PINNED = Wheel(
    "ziglang",
    "0.17.1",
    {
        "linux x86_64": "ea6cc5d87b033cf0aedfbc8f9549a908cae6c50ac31f1698188fa48a74524b54",
        "linux aarch64": "b7c5f02fccd40f89b999ee16a1f5ddced56e6182370f8affe494bcf8a28cf07e",
    },
    "install a C compiler (gcc or clang) to do without",
)


def main():
    """Leaves the choice to Go where it has one: another path to the same compiler would make it build everything again."""
    there = shutil.which("gcc") or shutil.which("clang")
    print(os.environ.get("CC") or ("" if there else fetched()))


def fetched():
    """A script that calls zig as a C compiler, with zig's caches in .build too."""
    folder = BUILD / "zig" / PINNED.version
    if not folder.exists():
        PINNED.unpack(folder)
    zig = folder / "ziglang" / "zig"
    zig.chmod(0o755)
    script = folder / "cc"
    cache = f"ZIG_LOCAL_CACHE_DIR='{folder}/cache' ZIG_GLOBAL_CACHE_DIR='{folder}/cache'"
    script.write_text(f"#!/bin/sh\n{cache} exec '{zig}' cc \"$@\"\n")
    script.chmod(0o755)
    return script


main()
