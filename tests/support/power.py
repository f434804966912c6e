"""A disk of one's own whose power can be cut: what was not synced is gone.

A file with an ext4 file system, mounted through a loop device. What programs have written and not synced is in the
kernel's memory and not in the file; a copy of the file, mounted in its place, is what the disk has after a power cut.
"""

import os
import shutil
import subprocess
from pathlib import Path

SIZE = 400 << 20
# the harshest that ext4 offers: nothing is written early, and a rename does not write what was renamed
OPTIONS = "loop,commit=300,noauto_da_alloc"


def is_possible():
    """Whether this machine lets us mount file systems."""
    if os.getuid() != 0 or not shutil.which("mkfs.ext4"):
        return False
    probe = subprocess.run(["losetup", "--find"], capture_output=True, check=False)
    return probe.returncode == 0


class Disk:
    """One disk, mounted for as long as this lasts."""

    def __init__(self, folder):
        self.image, self.place = folder / "disk.img", folder / "disk"

    def __enter__(self):
        self.place.mkdir(parents=True)
        with self.image.open("wb") as image:
            image.truncate(SIZE)
        subprocess.run(["mkfs.ext4", "-q", "-F", self.image], check=True)
        self.mount()
        return self

    def __exit__(self, *error):
        self.unmount()
        self.image.unlink()

    def mount(self):
        subprocess.run(["mount", "-o", OPTIONS, self.image, self.place], check=True)

    def unmount(self):
        """Lazily: what still has a file open there may end later."""
        subprocess.run(["umount", "--lazy", self.place], check=True)

    def cut(self):
        """Lose all that was not synced. Whatever uses the disk has to be dead."""
        left = self.image.with_suffix(".cut")
        subprocess.run(["cp", "--sparse=always", self.image, left], check=True)
        self.unmount()
        Path(left).replace(self.image)
        self.mount()
