"""Pictures of the page for the README, of a real collector: see screenshots.sh, which calls this.

Time goes faster for the collector than for us, so that its last hour takes minutes. It begins an hour ago, and meets ours when
the pictures are taken: by then the ages of its files, which the kernel stamps, are right.
"""

import base64
import contextlib
import http.client
import json
import math
import os
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

SPEED = 6
# Of our seconds, between two bulks.
BULK_EVERY_S = 0.5
# Heartbeats in one at the mean of the hour.
BULK = 48
DAYS = 29
DAY_MS = 86_400_000
DEVICES = 400
CHROMIUM = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
            "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--hide-scrollbars"]


class Collector:
    """`systole up` in a folder of its own."""

    def __init__(self, binary, folder, flags=(), clock=None):
        said = os.path.join(folder, "said")
        environment = {"PATH": os.environ["PATH"]} | (faked(clock) if clock else {})
        command = [binary, "up", "--listen", "127.0.0.1:0", "--data", os.path.join(folder, "data"),
                   "--user-rate", "0", "--address-rate", "0", *flags]
        with open(said, "w") as out, open(os.path.join(folder, "log"), "w") as log:
            self.process = subprocess.Popen(command, stdout=out, stderr=log, cwd=folder, env=environment)
        self.address = until("the collector to listen", lambda: listening(said))
        until("the buffer to be ready", lambda: self.get("/health/ready"))

    def get(self, path):
        with contextlib.suppress(OSError):
            return json.load(urllib.request.urlopen(f"http://{self.address}{path}", timeout=10))

    def post(self, records):
        connection = http.client.HTTPConnection(self.address, timeout=60)
        with contextlib.closing(connection):
            connection.request("POST", "/v1/heartbeats", json.dumps(records), {"content-type": "application/json"})
            connection.getresponse().read()

    def now_ms(self):
        return self.get("/v1/status")["now"]

    def stop(self):
        self.process.terminate()
        self.process.wait(60)


def faked(clock):
    """What faketime puts into the environment: so the process is our own child, and not one of its."""
    lines = subprocess.check_output(["faketime", "-f", clock, "env"], text=True).splitlines()
    return dict(line.split("=", 1) for line in lines if line.startswith(("LD_PRELOAD=", "FAKETIME")))


def listening(said):
    with open(said) as file:
        found = re.search(r"listens on http://(\S+?)\. ", file.read())
    return found and found[1]


def until(what, condition, deadline_s=60):
    give_up = time.monotonic() + deadline_s
    while time.monotonic() < give_up:
        if value := condition():
            return value
        time.sleep(0.1)
    sys.exit(f"error: waited {deadline_s} s for {what}")


def device(n):
    return {"user_id": f"team-{n % 23:02d}", "device_id": f"sensor-{n:03d}"}


def beats(count, moment):
    """Heartbeats of devices at `moment(n)`; now and then one that is refused."""
    return [device(random.randrange(DEVICES)) | {"timestamp": int(moment(n)), "id": f"{random.getrandbits(48):x}",
                                                 "attributes": {"battery": random.randrange(100)}} for n in range(count)]


def fill_the_month(collector):
    today = collector.now_ms() // DAY_MS
    for ago in range(DAYS, 0, -1):
        if ago in (17, 18):
            continue
        start = (today - ago) * DAY_MS
        # 1970 began on a Thursday.
        weekend = (today - ago + 4) % 7 in (0, 6)
        for _ in range(int((14 if weekend else 36) * random.uniform(0.85, 1.15))):
            collector.post(beats(1_000, lambda _: start + random.randrange(DAY_MS)))
    until("the month to be published", lambda: collector.get("/v1/status")["files"]["fragments"] == 0, 300)


def keep_beating(collector, stop):
    """A load that rises and falls, with a burst of bad records in it."""
    began = time.monotonic()
    while not stop.wait(BULK_EVERY_S):
        minute = (time.monotonic() - began) * SPEED / 60
        count = int(BULK * (1 + 0.35 * math.sin(minute / 9) + random.uniform(-0.06, 0.06)))
        now = collector.now_ms()
        records = beats(count, lambda _: now - random.randrange(5_000))
        if 31 < minute < 34:
            records += [{"user_id": "team-07"}] * 12 + [device(1) | {"timestamp": now - 40 * DAY_MS}] * 5
        collector.post(records)


class Browser:
    """Chromium by chromedriver: WebDriver is JSON over HTTP."""

    def __init__(self, folder):
        self.driver = subprocess.Popen(["chromedriver", "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        port = next(found[1] for line in self.driver.stdout if (found := re.search(r"successfully on port (\d+)", line)))
        self.url = f"http://127.0.0.1:{port}/session"
        options = {"args": [*CHROMIUM, f"--user-data-dir={folder}/profile"]}
        made = self.ask("POST", "", {"capabilities": {"alwaysMatch": {"goog:chromeOptions": options}}})
        self.url += "/" + made["sessionId"]

    def ask(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"content-type": "application/json"}, method=method)
        return json.load(urllib.request.urlopen(request, timeout=60))["value"]

    def devtools(self, command, **parameters):
        return self.ask("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def picture(self, url, file, width, height, scheme, scale=1, look="well"):
        self.devtools("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=False)
        self.devtools("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.ask("POST", "/url", {"url": url})
        script = ("const { state } = document.documentElement.dataset; const { look } = document.querySelector('#verdict').dataset;"
                  f" return state === 'live' && document.querySelectorAll('.line').length === 4 && look === '{look}'")
        drawn = lambda: self.ask("POST", "/execute/sync", {"script": script, "args": []})
        until("the page to be drawn", drawn)
        # Its second answer has settled what the first one moved.
        time.sleep(2.5)
        until("the same", drawn)
        with open(file, "wb") as picture:
            picture.write(base64.b64decode(self.devtools("Page.captureScreenshot")["data"]))

    def close(self):
        with contextlib.suppress(OSError):
            self.ask("DELETE", "")
        self.driver.terminate()
        self.driver.wait(20)


def of_a_good_hour(binary, browser, folder, images, minutes):
    collector = Collector(binary, folder)
    try:
        fill_the_month(collector)
    finally:
        collector.stop()
    collector = Collector(binary, folder, clock=f"-{minutes}m x{SPEED}")
    stop = threading.Event()
    load = threading.Thread(target=keep_beating, args=(collector, stop))
    load.start()
    try:
        # The clocks meet a little after the first picture.
        time.sleep(minutes * 60 / (SPEED - 1) - 8)
        url = f"http://{collector.address}/"
        browser.picture(url, f"{images}/page-light.png", 1280, 1040, "light")
        browser.picture(url, f"{images}/page-dark.png", 1280, 1040, "dark")
        browser.picture(url, f"{images}/page-phone.png", 390, 844, "light", scale=1.5)
    finally:
        stop.set()
        load.join(60)
        collector.stop()


def of_a_bad_hour(binary, browser, folder, images):
    """The folder that the batcher writes to is gone, as when a disk is: it tries for ever, and the buffer fills."""
    collector = Collector(binary, folder, ["--buffer-max-heartbeats", "64000", "--partitions", "8"])
    try:
        staging = f"{folder}/data/staging"
        os.rename(staging, staging + ".away")
        open(staging, "w").close()
        for _ in range(24):
            now = collector.now_ms()
            collector.post(beats(3_000, lambda _: now - random.randrange(5_000)))
            time.sleep(1)
        unwell = lambda: not collector.get("/v1/status")["verdict"]["well"]
        until("something to be wrong", unwell, 120)
        browser.picture(f"http://{collector.address}/", f"{images}/page-unwell.png", 1280, 900, "light", look="unwell")
    finally:
        collector.stop()


def main(binary, images, minutes):
    random.seed(7)
    os.makedirs(images, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        for name in ("good", "bad"):
            os.mkdir(f"{folder}/{name}")
        browser = Browser(folder)
        try:
            of_a_bad_hour(binary, browser, f"{folder}/bad", images)
            of_a_good_hour(binary, browser, f"{folder}/good", images, int(minutes))
        finally:
            browser.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
