# SPDX-License-Identifier: Apache-2.0
"""The cloud's interfaces for the scripts here: one request at a time, from the standard library."""

import json
import os
import pathlib
import urllib.error
import urllib.request

KEYSTONE = f"http://{os.environ['CLOUD_ADDRESS']}:5000/v3"
# Emulated, busy, or both.
TIMEOUT = 300
# Nobody's proxy is asked.
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Refused(Exception):
    """An answer that is an error."""

    def __init__(self, method, url, status, text):
        super().__init__(f"{method} {url}: {status} {text}")
        self.status = status


def secret(name, state="/run/wlcloud"):
    return pathlib.Path(state, "secrets", name).read_text()


def request(method, url, body=None, token=None, headers=None):
    """Sends JSON, or what a file holds; its answer and that answer's headers."""
    headers = {"Accept": "application/json", **({"X-Auth-Token": token} if token else {}), **(headers or {})}
    if body is not None and not hasattr(body, "read"):
        headers.setdefault("Content-Type", "application/json")
        body = json.dumps(body).encode()
    message = urllib.request.Request(url, data=body, headers=headers, method=method)
    try:
        with OPENER.open(message, timeout=TIMEOUT) as answer:
            text = answer.read()
            return (json.loads(text) if text else None), answer.headers
    except urllib.error.HTTPError as error:
        raise Refused(method, url, error.code, error.read().decode(errors="replace")) from error


def by_password(user, password, project):
    """Logs in to a project."""
    domain = {"id": "default"}
    identity = {"methods": ["password"], "password": {"user": {"name": user, "password": password, "domain": domain}}}
    return Session({"identity": identity, "scope": {"project": {"name": project, "domain": domain}}})


def by_application(credential, password):
    """Logs in to the project that an application credential is for."""
    name = "application_credential"
    return Session({"identity": {"methods": [name], name: {"id": credential, "secret": password}}})


class Session:
    """Somebody who has logged in, and does so again when the token has ended."""

    def __init__(self, auth):
        self.auth = auth
        self.log_in()

    def log_in(self):
        answer, headers = request("POST", f"{KEYSTONE}/auth/tokens", {"auth": self.auth})
        self.token = headers["X-Subject-Token"]
        self.user = answer["token"]["user"]["id"]
        self.project = answer["token"]["project"]["id"]
        self.urls = {entry["type"]: entry["endpoints"][0]["url"] for entry in answer["token"]["catalog"] if entry["endpoints"]}

    def call(self, method, service, path, body=None, headers=None):
        try:
            return request(method, self.urls[service] + path, body, self.token, headers)[0]
        except Refused as refused:
            if refused.status != 401:
                raise
        self.log_in()
        return request(method, self.urls[service] + path, body, self.token, headers)[0]

    def delete(self, service, path):
        return self.call("DELETE", service, path)

    def get(self, service, path):
        return self.call("GET", service, path)

    def post(self, service, path, body):
        return self.call("POST", service, path, body)

    def put(self, service, path, body=None):
        return self.call("PUT", service, path, body)
