# One image for all parts: the server, the workers, Flower. `docker compose up` builds and runs it.
ARG PYTHON_IMAGE=python:3.12-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
# A mirror of PyPI: --build-arg PIP_INDEX_URL=https://...
ARG PIP_INDEX_URL
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_INPUT=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
COPY requirements requirements
# All that is installed is known by its hash, and nothing is compiled from source.
RUN python -m venv /opt/stager \
    && /opt/stager/bin/pip install -q --compile --require-hashes --only-binary :all: -r requirements/run.txt \
    && python -m venv /opt/build \
    && /opt/build/bin/pip install -q --require-hashes --only-binary :all: -r requirements/build.txt
COPY . .
RUN /opt/build/bin/pip wheel -q --no-deps --no-build-isolation --wheel-dir /wheels . \
    && /opt/stager/bin/pip install -q --compile --no-deps --no-index /wheels/*.whl \
    && /opt/stager/bin/pip check \
    && /opt/stager/bin/pip uninstall -q -y pip

FROM ${PYTHON_IMAGE}
# Whoever owns the files on the share.
ARG STAGER_UID=10001
ARG STAGER_GID=10001
ARG REVISION=unknown
LABEL org.opencontainers.image.title="stager" \
      org.opencontainers.image.description="Stages the inputs of jobs: fetched once, verified, cached" \
      org.opencontainers.image.licenses="BSD-3-Clause" \
      org.opencontainers.image.revision="${REVISION}"
# These are for volumes (/run/stager: passwords) and belong to the user: a new volume takes that over.
RUN groupadd --gid "${STAGER_GID}" stager \
    && useradd --uid "${STAGER_UID}" --gid stager --no-create-home --home-dir /var/lib/stager \
        --shell /usr/sbin/nologin stager \
    && install -d -o stager -g stager -m 0750 /run/stager /var/lib/stager /var/lib/flower /data/cache
COPY --from=build /opt/stager /opt/stager
COPY deploy/*.py /opt/stager/deploy/
ENV PATH=/opt/stager/bin:${PATH} \
    PYTHONUNBUFFERED=1 \
    STAGER_CACHE_DIR=/data/cache \
    STAGER_STATE_DIR=/var/lib/stager
USER ${STAGER_UID}:${STAGER_GID}
WORKDIR /var/lib/stager
# Of the server; compose gives the others their own.
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "/opt/stager/deploy/healthcheck.py", "server"]
ENTRYPOINT ["stager"]
CMD ["serve"]
