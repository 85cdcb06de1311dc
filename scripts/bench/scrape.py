"""What a Systole process says of itself over HTTP."""

import http.client

TIMEOUT_S = 10.0
PREFIX = "systole_"


def is_ready(address: str) -> bool:
    try:
        return _get(address, "/health/ready")[0] == 200
    except OSError:
        return False


def metrics(address: str) -> dict[str, float]:
    """Each metric's sum over its labels, by its name without the prefix."""
    sums: dict[str, float] = {}
    for line in _get(address, "/metrics")[1].splitlines():
        if line.startswith(PREFIX):
            series, _, value = line.rpartition(" ")
            name = series.partition("{")[0].removeprefix(PREFIX)
            sums[name] = sums.get(name, 0.0) + float(value)
    return sums


def _get(address: str, path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection(address, timeout=TIMEOUT_S)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()
