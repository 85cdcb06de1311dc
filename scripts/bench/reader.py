"""One reader: streams a user's heartbeats, then those of another, until its time is over. Prints how many rows it read.

reader.py ADDRESS USERS SECONDS
"""

import http.client
import json
import random
import sys
import time

CHUNK = 64 << 10


def main(address: str, users: int, seconds: float) -> None:
    until = time.monotonic() + seconds
    rows = refused = 0
    connection = http.client.HTTPConnection(address, timeout=30.0)
    while time.monotonic() < until:
        user = f"user-{random.randrange(users):05}"
        connection.request("GET", f"/v1/users/{user}/heartbeats", headers={"accept": "application/x-ndjson"})
        answer = connection.getresponse()
        if answer.status != 200:
            answer.read()
            refused += 1
            time.sleep(0.1)
            continue
        while chunk := answer.read(CHUNK):
            rows += chunk.count(b"\n")
    print(json.dumps({"rows": rows, "refused": refused}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
