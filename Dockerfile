# One image for every role: `ringcast serve bus`, configured by RINGCAST_* (docs/architecture.md, "Configuration").
# BASE_IMAGE takes any image with Python 3.11 or newer; both stages use it, so the environment fits the interpreter.
ARG BASE_IMAGE=python:3.12-slim

# The tools stay in this stage. What the server needs is cut out of the one lock, with its pins and hashes.
FROM ${BASE_IMAGE} AS build
WORKDIR /source
RUN python3 -m venv /opt/tools && python3 -m venv --without-pip /opt/ringcast
COPY requirements.lock ./
RUN /opt/tools/bin/pip install --no-cache-dir --no-deps --require-hashes -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
RUN /opt/tools/bin/uv pip compile pyproject.toml --extra server --group raft --constraint requirements.lock \
        --generate-hashes --no-emit-index-url --quiet --output-file server.lock \
    && /opt/tools/bin/pip --python /opt/ringcast/bin/python install --no-cache-dir --no-deps --require-hashes -r server.lock
COPY ringcast ringcast
COPY sequencer sequencer
COPY broker broker
COPY store store
COPY replicas replicas
COPY cli cli
RUN /opt/tools/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /wheels . \
    && /opt/tools/bin/pip --python /opt/ringcast/bin/python install --no-deps --no-index /wheels/*.whl

FROM ${BASE_IMAGE}
RUN groupadd --system --gid 10001 ringcast \
    && useradd --system --uid 10001 --gid ringcast --home-dir /var/lib/ringcast --create-home ringcast
COPY --from=build /opt/ringcast /opt/ringcast
ENV PATH=/opt/ringcast/bin:$PATH PYTHONUNBUFFERED=1 RINGCAST_DATA=/var/lib/ringcast
USER 10001:10001
WORKDIR /var/lib/ringcast
VOLUME /var/lib/ringcast
# peer router, peer pub, client, feed, http
EXPOSE 7101 7102 7103 7104 7105
# SIGTERM hands the token on and drains (V11).
STOPSIGNAL SIGTERM
ENTRYPOINT ["ringcast"]
CMD ["serve", "bus"]
