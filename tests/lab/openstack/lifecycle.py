# SPDX-License-Identifier: Apache-2.0
"""The life of one server with all that it needs, as the operator: `check` runs it.

usage: lifecycle.py STATE fake|libvirt
"""

import base64
import contextlib
import http.server
import json
import os
import signal
import sys
import threading
import time
import urllib.error

from api import OPENER, Refused, by_application, by_password, secret

STATE, COMPUTE = sys.argv[1:]
GATEWAY = os.environ["CLOUD_PUBLIC_GATEWAY"]
# Emulated, on a busy machine.
LIMIT = 1800
BEGAN = time.monotonic()
NAME = "lab-check"
# What the server asks this machine for, and what it serves itself.
WORD, PORT = "lab-check-word", 8000


def say(text):
    print(f"[{time.monotonic() - BEGAN:5.0f} s] {text}", flush=True)


def wait(what, ask):
    """Until the answer is one."""
    end = time.monotonic() + LIMIT
    while not (answer := ask()):
        if time.monotonic() > end:
            raise SystemExit(f"not within {LIMIT} s: {what}")
        time.sleep(1)
    say(what)
    return answer


@contextlib.contextmanager
def made(cloud, service, path, kind, fields):
    """Something that is there for a while; how it was when it was made."""
    thing = cloud.post(service, path, {kind: {"name": NAME, **fields}})[kind]
    try:
        yield thing
    finally:
        cloud.delete(service, f"{path}/{thing.get('id', NAME)}")
        wait(f"{kind} is gone", lambda: is_gone(cloud, service, f"{path}/{thing.get('id', NAME)}"))


def is_gone(cloud, service, path):
    try:
        cloud.get(service, path)
    except Refused as refused:
        if refused.status != 404:
            raise
        return True
    return False


def has_status(cloud, service, path, kind, status):
    thing = cloud.get(service, path)[kind]
    if "error" in thing["status"].lower():
        raise SystemExit(json.dumps(thing, indent=1))
    return thing if thing["status"] == status else None


def named(cloud, service, path, kind, name):
    return next(entry for entry in cloud.get(service, path)[kind] if entry["name"] == name)["id"]


def serve_word():
    """On the gateway of the external network: the port."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(WORD.encode())

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer((GATEWAY, 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_address[1]


def user_data(volume, port):
    """Tells on the console what the server sees, line by line, and serves its root to whoever comes by the floating IP."""
    device = f"/dev/disk/by-id/virtio-{volume[:20]}"
    lines = [
        "exec >/dev/console 2>&1",
        "echo lab-check: $(findmnt -n -o TARGET / && cloud-init query platform)",
        f"for i in $(seq 600); do if curl -sf http://{GATEWAY}:{port}/; then break; fi; sleep 1; done; echo",
        f"mkdir /run/web && cd /run/web && python3 -m http.server {PORT} &",
        f"for i in $(seq 600); do if [ -b {device} ]; then break; fi; sleep 1; done",
        f"echo lab-check: volume $(blockdev --getsize64 {device}) at {device}",
    ]
    text = "#cloud-config\n" + json.dumps({"runcmd": ["\n".join(lines)]})
    return base64.b64encode(text.encode()).decode()


@contextlib.contextmanager
def network(cloud):
    """A network behind a router, and a group that lets the check in."""
    public = named(cloud, "network", "/v2.0/networks?router:external=true", "networks", "public")
    with contextlib.ExitStack() as stack:

        def make(path, kind, **fields):
            return stack.enter_context(made(cloud, "network", f"/v2.0/{path}", kind, fields))

        group = make("security-groups", "security_group")
        rule = {"security_group_id": group["id"], "direction": "ingress", "protocol": "tcp"}
        rule |= {"port_range_min": PORT, "port_range_max": PORT, "remote_ip_prefix": f"{GATEWAY}/32"}
        cloud.post("network", "/v2.0/security-group-rules", {"security_group_rule": rule})
        inner = make("networks", "network")
        router = make("routers", "router", external_gateway_info={"network_id": public})
        subnet = make("subnets", "subnet", network_id=inner["id"], ip_version=4, cidr="10.20.0.0/24")
        interface = {"subnet_id": subnet["id"]}
        cloud.put("network", f"/v2.0/routers/{router['id']}/add_router_interface", interface)
        stack.callback(cloud.put, "network", f"/v2.0/routers/{router['id']}/remove_router_interface", interface)
        address = {"subnet_id": subnet["id"], "ip_address": "10.20.0.10"}
        pairs = [{"ip_address": "10.244.0.0/16"}]
        fields = {"network_id": inner["id"], "fixed_ips": [address], "security_groups": [group["id"]]}
        port = make("ports", "port", allowed_address_pairs=pairs, **fields)
        # A floating IP has no name.
        floating = {"floating_network_id": public, "port_id": port["id"]}
        floating = cloud.post("network", "/v2.0/floatingips", {"floatingip": floating})["floatingip"]
        stack.callback(cloud.delete, "network", f"/v2.0/floatingips/{floating['id']}")
        say(f"network, router, port, and floating IP {floating['floating_ip_address']}")
        yield port["id"], floating["floating_ip_address"]


def console(cloud, server):
    return cloud.post("compute", f"/servers/{server}/action", {"os-getConsoleOutput": {}})["output"]


def fetched(url):
    try:
        with OPENER.open(url, timeout=20) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False


def check_guest(cloud, server, address):
    """What only a server that runs can show."""
    for text in ("lab-check: /", WORD, "lab-check: volume 1073741824 at"):
        wait(f"the server says {text!r}", lambda text=text: text in console(cloud, server))
    wait(f"this machine reaches it at {address}", lambda: fetched(f"http://{address}:{PORT}/"))


def check(cloud):
    running = COMPUTE == "libvirt"
    image = named(cloud, "image", "/v2/images", "images", "windlass-guest" if running else "tiny")
    flavor = named(cloud, "compute", "/flavors", "flavors", "small")
    with contextlib.ExitStack() as stack:
        port, address = stack.enter_context(network(cloud))
        volume = stack.enter_context(made(cloud, "volumev3", "/volumes", "volume", {"size": 1}))["id"]
        wait("volume is available", lambda: has_status(cloud, "volumev3", f"/volumes/{volume}", "volume", "available"))
        fields = {"imageRef": image, "flavorRef": flavor, "config_drive": True, "user_data": user_data(volume, serve_word())}
        fields["networks"] = [{"port": port}]
        server = stack.enter_context(made(cloud, "compute", "/servers", "server", fields))["id"]
        wait("server is active", lambda: has_status(cloud, "compute", f"/servers/{server}", "server", "ACTIVE"))
        attachments = f"/servers/{server}/os-volume_attachments"
        cloud.post("compute", attachments, {"volumeAttachment": {"volumeId": volume}})
        wait("volume is attached", lambda: has_status(cloud, "volumev3", f"/volumes/{volume}", "volume", "in-use"))
        if running:
            check_guest(cloud, server, address)
        cloud.delete("compute", f"{attachments}/{volume}")
        wait("volume is detached", lambda: has_status(cloud, "volumev3", f"/volumes/{volume}", "volume", "available"))


def main():
    # Ended from outside it clears up too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    by_password("operator", secret("operator", STATE), "windlass")
    say("operator logs in by password")
    cloud = by_application(secret("application-id", STATE), secret("application", STATE))
    say("and by application credential")
    check(cloud)
    say("all of it is gone again")


main()
