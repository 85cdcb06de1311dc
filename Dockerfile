# syntax=docker/dockerfile:1
# One image, one binary, every role: the command picks it (up, serve, batch, compact …).

FROM rust:1.95-slim-bookworm AS build
WORKDIR /build
# The allocator is built by make.
RUN apt-get update && apt-get install --yes --no-install-recommends make && rm -rf /var/lib/apt/lists/*
COPY .cargo .cargo
# Dependencies first, on an empty program, so that a change of ours does not build polars again.
COPY Cargo.toml Cargo.lock ./
# Not built, but cargo wants what Cargo.toml names to be there.
COPY benches benches
RUN mkdir src && echo 'fn main() {}' > src/main.rs && touch src/lib.rs \
    && cargo build --release --locked \
    && rm -r src
COPY src src
# The empty program above must not pass for newer than the sources.
RUN touch src/main.rs src/lib.rs && cargo build --release --locked

FROM debian:bookworm-slim
COPY --from=build /build/target/release/systole /usr/local/bin/systole
COPY scripts/healthcheck.sh /usr/local/bin/healthcheck
# A fresh named volume takes its owner from this folder.
RUN groupadd --gid 10001 systole \
    && useradd --uid 10001 --gid systole --no-create-home --shell /usr/sbin/nologin systole \
    && install --directory --owner=systole --group=systole /data
USER 10001:10001
WORKDIR /data
ENV SYSTOLE_DATA=/data
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 CMD ["healthcheck", "8080", "/health/live"]
ENTRYPOINT ["systole"]
# Publish the port on 127.0.0.1, or make tokens first (`systole token create`): from the first one on nobody is let in without.
CMD ["up", "--listen", "0.0.0.0:8080", "--allow-anonymous"]
