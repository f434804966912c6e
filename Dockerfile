# The worker, the API and the flows: one image. `docker build --tag ltx-flows .`
FROM python:3.11-slim-bookworm

# gcc and libc6-dev: torch.compile makes its kernels' launchers when a training begins; Python's headers are in the image
# hadolint ignore=DL3008  # Debian's own release is the pin
RUN apt-get update \
    && apt-get install --no-install-recommends --yes ffmpeg gcc libc6-dev rubberband-cli tini \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /app
COPY pyproject.toml setup.py MANIFEST.in constraints.txt README.md LICENSE ./
COPY schemas schemas
COPY models models
COPY tasks tasks
COPY flows flows
COPY prefect.yaml .
RUN pip install --no-cache-dir --constraint constraints.txt ".[postgres,docker,kubernetes]" \
    && useradd --create-home --uid 1000 ltx \
    && install --directory --owner ltx /srv/ltx

USER 1000
ENV LTX_FLOWS_HOME=/srv/ltx \
    PREFECT_SERVER_ANALYTICS_ENABLED=false \
    DO_NOT_TRACK=1
# as process 1 a worker would have to bury the children of others
ENTRYPOINT ["tini", "--"]
CMD ["ltx-flows", "doctor"]
