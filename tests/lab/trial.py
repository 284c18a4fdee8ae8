# SPDX-License-Identifier: Apache-2.0
"""What `check` needs: a guest of the lab with a shell on its second serial port, a controller, a server of files."""

import functools
import http.server
import json
import os
import pathlib
import re
import socket
import subprocess
import threading
import time

LAB = pathlib.Path(os.environ.get("WINDLASS_CACHE", pathlib.Path.home() / ".cache/windlass")) / "lab/current"
NODE = "n1"
# Emulated, on a busy machine.
BOOT_LIMIT = 600
LINE_LIMIT = 900
SHELL_UNIT = """[Service]
ExecStart=/bin/sh -c 'stty -F /dev/ttyS1 raw -echo; exec bash --norc --noprofile </dev/ttyS1 >/dev/ttyS1 2>&1'
KillSignal=SIGHUP
Restart=always
Environment=HOME=/root PS1= PS2=
[Install]
WantedBy=multi-user.target
"""
MAC = "52:54:00:00:00:01"


def serve(directory):
    """Serves a directory on loopback; its port."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=directory)
    handler.func.log_message = lambda *_: None
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_address[1]


class Guest:
    """A machine of the lab's image."""

    def __init__(self, directory):
        self.directory = directory
        self.log = directory / "console"
        unit = {"path": "/etc/systemd/system/lab-shell.service", "content": SHELL_UNIT}
        user = {"hostname": NODE, "write_files": [unit], "runcmd": ["systemctl enable --now --no-block lab-shell"]}
        network = {"version": 2, "ethernets": {"wan": {"match": {"macaddress": MAC}, "dhcp4": True}}}
        texts = {
            "user-data": "#cloud-config\n" + json.dumps(user),
            "meta-data": json.dumps({"instance-id": "check", "local-hostname": NODE}),
            "network-config": json.dumps(network),
        }
        for name, text in texts.items():
            (directory / name).write_text(text)
        seed = ["genisoimage", "-quiet", "-V", "cidata", "-J", "-r", "-o", "seed.iso", *texts]
        subprocess.run(seed, cwd=directory, check=True)
        base = os.path.realpath(LAB / "guest.qcow2")
        disk = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", base, "disk.qcow2", "8G"]
        subprocess.run(disk, cwd=directory, check=True)
        drive = "if=virtio,cache=unsafe,file="
        words = f"""qemu-system-x86_64 -accel tcg,thread=multi -cpu max -smp 2 -m 1024 -display none -nodefaults
            -serial file:console -serial unix:shell,server=on,wait=off -device virtio-rng-pci
            -drive {drive}disk.qcow2 -drive {drive}seed.iso,format=raw,readonly=on
            -netdev user,id=wan -device virtio-net-pci,netdev=wan,mac={MAC}"""
        self.qemu = subprocess.Popen(words.split(), cwd=directory, stdin=subprocess.DEVNULL)

    def wait_said(self, pattern, times=1):
        """Waits until the console has said something so many times."""
        limit = time.monotonic() + BOOT_LIMIT
        while time.monotonic() < limit and self.qemu.poll() is None:
            text = self.log.read_text(errors="replace") if self.log.exists() else ""
            if len(re.findall(pattern, text)) >= times:
                return
            time.sleep(0.5)
        tail = "\n".join(text.splitlines()[-20:])
        raise SystemExit(f"the console did not say {pattern!r} {times} times; it ends with\n{tail}")

    def run(self, line, code=0):
        """Runs a line of shell; its output. It must end with the code."""
        mark = f"end-{time.monotonic_ns()}"
        shell = socket.socket(socket.AF_UNIX)
        shell.connect(str(self.directory / "shell"))
        shell.settimeout(LINE_LIMIT)
        shell.sendall(f"\n( {line}\n) </dev/null 2>&1; echo {mark[:3]}''{mark[3:]} $?\n".encode())
        read = b""
        while not (end := re.search(rf"(.*){mark} (\d+)\r?\n".encode(), read, re.DOTALL)):
            read += shell.recv(65536)
        shell.close()
        output = end[1].decode(errors="replace")
        if int(end[2]) != code:
            raise SystemExit(f"exit code {int(end[2])}, not {code}: {line}\n{output}")
        return output

    def reboot(self, times):
        """Reboots, for the given time in this guest's life."""
        self.run("systemd-run --on-active=1 systemctl reboot")
        self.wait_said("Linux version", times + 1)
        self.wait_said("modules:final", times + 1)


class Controller:
    """A controller on loopback that the guest reaches at 10.0.2.2."""

    def __init__(self, program, directory):
        self.program = program
        free = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
        ports = [server.getsockname()[1] for server in free]
        for server in free:
            server.close()
        names = ["listen", "join_listen", "http_listen"]
        lines = [f'{name} = "127.0.0.1:{port}"' for name, port in zip(names, ports)]
        (directory / "controller").mkdir(mode=0o700)
        lines += [f'socket = "{directory}/sock"', f'state_dir = "{directory}/controller"', 'advertise = ["10.0.2.2"]']
        (directory / "controller.toml").write_text("\n".join(lines))
        self.environment = {**os.environ, "WINDLASS_SOCKET": f"{directory}/sock"}
        log = open(directory / "controller.log", "wb")
        self.process = subprocess.Popen([program, "serve", "--config", directory / "controller.toml"], stdout=log, stderr=log)
        while not (directory / "sock").exists():
            time.sleep(0.1)

    def cli(self, *words):
        return subprocess.run([self.program, *words], env=self.environment, stdout=subprocess.PIPE, text=True).stdout
