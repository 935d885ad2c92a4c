"""The environment of vLLM: made beside the project's own, and kept while what is in it is the same.

    python -m tests.vllm.environment FOLDER

It is vLLM as its users have it: of other packages than ours, which never meet. PyTorch's companions for images, sounds and
videos are taken out again: builds of theirs for GPUs do not load beside a PyTorch for the CPU.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

LIST = Path(__file__).with_name("requirements.txt")
WITHOUT = ("torchvision", "torchaudio", "torchcodec")


def stamp() -> str:
    """What tells environments apart: the list, the interpreter, and how it is made."""
    said = LIST.read_bytes() + sys.version.encode() + Path(__file__).read_bytes()
    return hashlib.sha256(said).hexdigest()


def main(folder: str) -> None:
    """See the module."""
    place = Path(folder)
    made = place / "stamp"
    if made.exists() and made.read_text() == stamp():
        return
    if (place / "pyvenv.cfg").exists():
        shutil.rmtree(place)
    subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
    pip = [str(place / "bin" / "pip"), "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "--quiet", "--requirement", str(LIST)], check=True)
    subprocess.run([*pip, "uninstall", "--quiet", "--yes", *WITHOUT], check=True)
    made.write_text(stamp())


if __name__ == "__main__":
    main(sys.argv[1])
