"""Tests of prometheus.py with an apt-get and a dpkg-deb made here; the real ones are used by every first run of `make test`."""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

TOOLS = pathlib.Path(__file__).resolve().parent

APT = """#!/bin/sh
echo "$@" >> "$CALLS"
case "$*" in
*Dir::State*) ;;
*) [ -z "$STALE" ] || exit 100;;
esac
case "$*" in
*download*) [ -z "$BROKEN" ] || exit 100; echo deb > prometheus_2.42.0+ds-5_amd64.deb;;
esac
"""
DPKG = """#!/bin/sh
mkdir -p "$3/usr/bin"
printf '#!/bin/sh\\necho it runs\\n' > "$3/usr/bin/prometheus"
chmod 755 "$3/usr/bin/prometheus"
"""


class Prometheus(unittest.TestCase):
    """Which Prometheus is taken, and what is said where none can be had."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name).resolve()
        (self.folder / "tools").mkdir()
        for name in "prometheus.py", "wheel.py":
            shutil.copy(TOOLS / name, self.folder / "tools")
        self.programs = self.folder / "bin"
        self.programs.mkdir()
        for name in "mkdir", "chmod":
            (self.programs / name).symlink_to(shutil.which(name))

    def program(self, name, text):
        """A program on the PATH."""
        path = self.programs / name
        path.write_text(text)
        path.chmod(0o755)
        return path

    def debian(self):
        """A machine with apt."""
        self.program("apt-get", APT)
        self.program("dpkg-deb", DPKG)

    def ask(self, **variables):
        """Runs the script with nothing but our programs on the PATH."""
        environment = {"PATH": str(self.programs), "CALLS": str(self.folder / "calls"), "PYTHONDONTWRITEBYTECODE": "1", **variables}
        script = self.folder / "tools" / "prometheus.py"
        return subprocess.run([sys.executable, script], capture_output=True, text=True, env=environment, check=False)

    def calls(self):
        """What apt-get was asked."""
        file = self.folder / "calls"
        return file.read_text().splitlines() if file.exists() else []

    def refused(self, words, **variables):
        """It fails with these words and what to do instead, and leaves nothing behind."""
        done = self.ask(**variables)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn(words, done.stderr)
        self.assertEqual(done.stdout, "")
        build = self.folder / ".build"
        self.assertEqual(list(build.iterdir()) if build.exists() else [], [])
        return done.stderr

    def test_one_that_is_named_is_taken(self):
        path = self.program("mine", "#!/bin/sh\n")
        self.assertEqual(self.ask(PROMETHEUS=str(path)).stdout, f"{path}\n")

    def test_one_that_is_named_and_is_not_there_is_an_error(self):
        self.debian()
        self.refused("$PROMETHEUS is /nowhere/prometheus", PROMETHEUS="/nowhere/prometheus")

    def test_one_on_the_path_is_taken(self):
        path = self.program("prometheus", "#!/bin/sh\n")
        self.assertEqual(self.ask().stdout, f"{path}\n")

    def test_debians_is_fetched_once(self):
        self.debian()
        path = self.folder / ".build" / "prometheus" / "2.42.0+ds-5" / "prometheus"
        for _ in range(2):
            self.assertEqual(self.ask().stdout, f"{path}\n")
        self.assertEqual(subprocess.run([path], capture_output=True, text=True, check=True).stdout, "it runs\n")
        self.assertEqual(len(self.calls()), 1)
        self.assertEqual(os.listdir(self.folder / ".build"), ["prometheus"])

    def test_a_machine_without_lists_gets_its_own(self):
        self.debian()
        self.assertEqual(self.ask(STALE="1").returncode, 0)
        download, update, again = self.calls()
        self.assertNotIn("Dir::State", download)
        self.assertIn("update", update)
        self.assertIn("Dir::State", again)

    def test_a_machine_without_apt_is_told_what_to_do(self):
        self.assertIn("set $PROMETHEUS", self.refused("there is no apt-get here"))

    def test_a_download_that_fails_says_what_to_do(self):
        self.debian()
        self.assertIn("set $PROMETHEUS", self.refused("apt-get could not download it", BROKEN="1"))


if __name__ == "__main__":
    unittest.main()
