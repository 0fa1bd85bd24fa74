# SPDX-License-Identifier: Apache-2.0
"""A browser that a test drives: Chromium through chromedriver and the W3C WebDriver protocol, by Python's own HTTP client."""
import base64
import http.client
import json
import os
import subprocess
import tempfile
import time

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"


class Browser:
    def __init__(self, width=1200, height=900):
        self.home = tempfile.TemporaryDirectory(prefix="web.")
        self.log = open(os.path.join(self.home.name, "driver.log"), "w+")
        self.driver = subprocess.Popen(["chromedriver", "--port=0"], stdout=subprocess.PIPE, stderr=self.log, text=True, start_new_session=True)
        self.port = self._port()
        options = {"args": ["--headless=new", "--disable-gpu", "--no-sandbox", "--disable-dev-shm-usage", "--hide-scrollbars", "--no-first-run",
                            "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-proxy-server",
                            f"--user-data-dir={self.home.name}/profile", f"--window-size={width},{height}"]}
        wanted = {"browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}, "unhandledPromptBehavior": "accept"}
        self.path = ""
        answer = self._ask("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        self.path = "/session/" + answer["sessionId"]

    def _port(self):
        for line in self.driver.stdout:
            words = line.split()
            if "port" in words and "successfully" in words:
                return int(words[-1].rstrip("."))
        raise RuntimeError("chromedriver did not start")

    def _ask(self, method, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        data = None if body is None else json.dumps(body)
        connection.request(method, self.path + path, data, {"Content-Type": "application/json"})
        value = json.loads(connection.getresponse().read())["value"]
        connection.close()
        if isinstance(value, dict) and "error" in value:
            raise RuntimeError(f"{method} {path}: {value['message']}")
        return value

    def go(self, url):
        self._ask("POST", "/url", {"url": url})

    def js(self, script, *arguments):
        return self._ask("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def keys(self, *keys):
        actions = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        self._ask("POST", "/actions", {"actions": [{"type": "key", "id": "keyboard", "actions": actions}]})

    def _on(self, selector, what, body):
        """Of an element that the page may have drawn anew since it was found."""
        for attempt in range(5):
            found = self._ask("POST", "/element", {"using": "css selector", "value": selector})
            try:
                return self._ask("POST", f"/element/{found[ELEMENT]}/{what}", body)
            except RuntimeError as error:
                if "stale element" not in str(error) or attempt == 4:
                    raise

    def click(self, selector):
        self._on(selector, "click", {})

    def type(self, selector, text):
        self._on(selector, "value", {"text": text})

    def cdp(self, command, **parameters):
        return self._ask("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def resize(self, width, height, phone=False):
        self.cdp("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)

    def complaints(self):
        """What the page wrote to the console at the levels of an error or a warning since the last call."""
        return [entry["message"] for entry in self._ask("POST", "/se/log", {"type": "browser"}) if entry["level"] in ("SEVERE", "WARNING")]

    def shot(self, path):
        with open(path, "wb") as file:
            file.write(base64.b64decode(self._ask("GET", "/screenshot")))

    def wait(self, what, script, seconds=20):
        deadline = time.monotonic() + seconds
        while not self.js(script):
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {seconds} s: {what}; the page says: {self.js('return document.body.innerText')}")
            time.sleep(0.1)

    def close(self):
        try:
            self._ask("DELETE", "")
        finally:
            self.driver.terminate()
            self.driver.wait(20)
            self.home.cleanup()
