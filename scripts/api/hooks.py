"""What schemathesis does not know by itself: lines of JSON are sent as the text that they are."""

import schemathesis


@schemathesis.serializer("application/x-ndjson", "application/ndjson", "application/jsonl")
def lines(context, value):
    return value if isinstance(value, bytes) else str(value).encode("utf-8", errors="surrogatepass")
