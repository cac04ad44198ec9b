# One image for every role: `ringcast serve bus|products|...`, configured by RINGCAST_* (docs/operations.md).
#
#   make wheels && docker build --tag ringcast .
#
# Everything that is installed comes from wheels/ in the build context (`make wheels`), so a build needs no network and
# repeats. BASE_IMAGE takes any image with Python 3.11 or newer and its venv module; the wheels must be for its version:
# `make wheels BASE_PYTHON=3.11`. Both stages use it, so the environment fits the interpreter.
ARG BASE_IMAGE=python:3.12.11-slim-bookworm

# The tools stay in this stage.
FROM ${BASE_IMAGE} AS build
RUN python3 -m venv /opt/tools && python3 -m venv --without-pip /opt/ringcast
COPY wheels /wheels
RUN ["/opt/tools/bin/python3", "-m", "pip", "--python", "/opt/ringcast/bin/python3", "install", "--no-cache-dir", \
     "--no-index", "--no-deps", "--disable-pip-version-check", "--find-links", "/wheels", "--requirement", "/wheels/all.txt"]

FROM ${BASE_IMAGE}
LABEL org.opencontainers.image.title="Ringcast" \
      org.opencontainers.image.description="A totally ordered, durable broadcast bus: equal replicas, one order" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="0.1.0"
RUN groupadd --system --gid 10001 ringcast \
    && useradd --system --uid 10001 --gid ringcast --home-dir /var/lib/ringcast --create-home ringcast \
    && install --directory --owner ringcast --group ringcast --mode 0700 /etc/ringcast/keys
COPY --from=build /opt/ringcast /opt/ringcast
ENV PATH=/opt/ringcast/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 RINGCAST_DATA=/var/lib/ringcast
USER 10001:10001
WORKDIR /var/lib/ringcast
VOLUME /var/lib/ringcast
# The bus: peer router, peer pub, client, feed, http. The other roles' ports: docker-compose.yml.
EXPOSE 7101 7102 7103 7104 7105
# Healthy is ready: it serves now. Nothing restarts a container for being unhealthy; it shows, and it orders the start.
HEALTHCHECK --interval=5s --timeout=5s --start-period=60s --retries=3 CMD ["python3", "-m", "replicas.probe", "readyz"]
# SIGTERM hands the turn or the leadership on and drains (V11).
STOPSIGNAL SIGTERM
ENTRYPOINT ["ringcast"]
CMD ["serve", "bus"]
