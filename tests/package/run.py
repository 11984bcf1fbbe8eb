#!/usr/bin/env python3
"""The package in a clean Debian: debootstrap makes one below the target folder, systemd-nspawn boots a copy of it, and
inside.py does there what a person would. `run.py DEB`; `--check` says with 1, and why, that this host cannot."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", HERE.parent.parent / "target")) / "package-test"
PACKAGES = "systemd,systemd-sysv,dbus,python3"
SECONDS_MAX = 240
UNIT = """[Unit]
After=multi-user.target
[Service]
ExecStart=/bin/sh -c '/usr/bin/python3 /test/inside.py /test/1.deb /test/2.deb /test/3.deb >/test/log 2>&1; echo $? >/test/status; systemctl poweroff'
"""


def refused():
    if os.geteuid() != 0:
        return "only root can boot a container"
    for tool in ("debootstrap", "systemd-nspawn", "dpkg-deb"):
        if not shutil.which(tool):
            return f"{tool} is missing"
    return None


def make_base(base):
    if base.exists():
        return
    part = base.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    part.parent.mkdir(parents=True, exist_ok=True)
    print("a clean Debian 12 is made once", flush=True)
    subprocess.run(["debootstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm", part], check=True, stdout=subprocess.DEVNULL)
    part.rename(base)


def make_packages(deb, folder):
    """The same package thrice, each a version later."""
    shutil.copy(deb, folder / "1.deb")
    tree = folder / "tree"
    subprocess.run(["dpkg-deb", "--raw-extract", deb, tree], check=True)
    control = tree / "DEBIAN/control"
    text = control.read_text()
    version = next(line.split()[1] for line in text.splitlines() if line.startswith("Version:"))
    for number in (2, 3):
        later = version.rsplit("-", 1)[0] + f"-{number}"
        control.write_text(text.replace(f"Version: {version}", f"Version: {later}"))
        subprocess.run(["dpkg-deb", "--root-owner-group", "-Znone", "--build", tree, folder / f"{number}.deb"], check=True, stdout=subprocess.DEVNULL)
    shutil.rmtree(tree)


def main():
    reason = refused()
    if reason or sys.argv[1:] == ["--check"]:
        print(reason or "it can be run here")
        return int(reason is not None)
    base, root = TARGET / "bookworm", TARGET / "root"
    make_base(base)
    shutil.rmtree(root, ignore_errors=True)
    subprocess.run(["cp", "--archive", "--reflink=auto", base, root], check=True)
    test = root / "test"
    test.mkdir()
    make_packages(sys.argv[1], test)
    shutil.copy(HERE / "inside.py", test)
    units = root / "etc/systemd/system"
    (units / "test.service").write_text(UNIT)
    # After multi-user.target, which therefore must not wait for it.
    (units / "default.target.wants").mkdir(exist_ok=True)
    (units / "default.target.wants/test.service").symlink_to("../test.service")
    boot = ["systemd-nspawn", "--quiet", "--directory", root, "--register=no", "--keep-unit", "--private-network", "--capability=CAP_IPC_LOCK", "--boot"]
    try:
        subprocess.run(boot, check=True, timeout=SECONDS_MAX, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    except subprocess.SubprocessError as error:
        print(error)
    log, status = test / "log", test / "status"
    print(log.read_text() if log.exists() else "nothing was run in the container")
    passed = status.exists() and status.read_text().strip() == "0"
    shutil.rmtree(root, ignore_errors=True)
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
