# Sentinel as an image: `make docker-build`. docs/docker.md says how it is run; tests/deploy/test_image.py replays the steps below.

# One digest for all platforms, of the tag beside it. For security fixes of the base take a newer pair.
ARG PYTHON_IMAGE=python:3.11.17-slim-trixie@sha256:45037981b62b34b44602584fccbc4d884d5f7dc92c7ee86bb38a698a79fe1e51

FROM ${PYTHON_IMAGE} AS build
WORKDIR /build
ENV UV_COMPILE_BYTECODE=1 \
    UV_LINK_MODE=copy \
    UV_SYSTEM_CERTS=1
COPY requirements/build.lock requirements/
RUN python -m pip install --no-cache-dir --disable-pip-version-check --root-user-action=ignore --require-hashes -r requirements/build.lock

# What the gateway requires, by hash, in a layer that lasts until a lock changes. EXTRAS are those of pyproject.toml.
ARG EXTRAS="redis"
COPY pyproject.toml requirements/image.lock ./
RUN python -m venv --without-pip /opt/sentinel \
    && set -- \
    && for extra in ${EXTRAS}; do set -- "$@" --extra "${extra}"; done \
    && uv pip install --python /opt/sentinel/bin/python -r pyproject.toml "$@" --constraint image.lock --verify-hashes

# The gateway itself, with its embedding model; the build backend is the one that the lock named.
COPY README.md LICENSE CHANGELOG.md ./
COPY src src
RUN hatchling build -t wheel -d dist \
    && uv pip install --offline --no-deps --python /opt/sentinel/bin/python dist/*.whl


FROM ${PYTHON_IMAGE}
ARG VERSION=dev
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Sentinel" \
      org.opencontainers.image.description="A semantic AI gateway: one OpenAI-compatible endpoint in front of any LLM provider" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

# Everything that is written: state, the request log, keys that are handed to others. The group may write too, so that any user
# of group 10001 can run it; all else belongs to root, and a read-only root file system takes nothing away.
RUN install -d -o 10001 -g 10001 -m 0770 /data /app/logs /app/keys
COPY --from=build /opt/sentinel /opt/sentinel

ENV PATH=/opt/sentinel/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/data \
    TMPDIR=/var/tmp \
    HOST=0.0.0.0 \
    PORT=8080 \
    LOG_PATH=/app/logs/requests.log \
    SENTINEL_DATA_DIR=/data
WORKDIR /app
USER 10001:10001
VOLUME ["/data", "/app/logs"]
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=5 \
    CMD ["python", "-c", "import http.client as h, os, sys; c = h.HTTPConnection('127.0.0.1', int(os.environ['PORT']), timeout=4); c.request('GET', '/livez'); sys.exit(c.getresponse().status != 200)"]
ENTRYPOINT ["sentinel"]
CMD ["serve"]
