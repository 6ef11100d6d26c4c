# The small image: the operator, the preflight checks and the artifact fetch. No torch.
# On a machine without a registry, BASE_IMAGE is the Debian base that e2e/images/base.py makes.
ARG BASE_IMAGE=python:3.12-slim-bookworm

FROM ${BASE_IMAGE} AS build
ARG SSL_CERT_FILE
ARG UV_VERSION=0.13.9
ARG HATCHLING_VERSION=1.33.0
ENV UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_NO_CACHE=1 UV_PYTHON_DOWNLOADS=never
RUN python3 -m venv /opt/build \
 && /opt/build/bin/pip install --no-cache-dir --quiet --disable-pip-version-check \
      ${SSL_CERT_FILE:+--cert "$SSL_CERT_FILE"} "uv==${UV_VERSION}" "hatchling==${HATCHLING_VERSION}"
WORKDIR /src

# Dependencies exactly as locked. They depend on what the lock resolves to, not on how pyproject.toml is formatted.
FROM build AS requirements
COPY pyproject.toml uv.lock ./
RUN /opt/build/bin/uv export --quiet --frozen --no-dev --no-emit-project --extra operator \
      --output-file /requirements.txt && sed -i '/^#/d' /requirements.txt

FROM build AS dependencies
ARG SSL_CERT_FILE
COPY --from=requirements /requirements.txt /requirements.txt
RUN /opt/build/bin/uv venv --quiet /opt/venv \
 && /opt/build/bin/uv pip install --quiet --python /opt/venv --no-deps --require-hashes -r /requirements.txt \
 && echo /opt/app > "$(/opt/venv/bin/python -c 'import site; print(site.getsitepackages()[0])')/app.pth"

# Our code lies beside its dependencies, so that a source change is one small layer.
FROM dependencies AS wheel
COPY pyproject.toml README.md LICENSE ./
COPY crds/finetune_api crds/finetune_api
COPY artifacts/finetune_artifacts artifacts/finetune_artifacts
COPY operator/finetune_operator operator/finetune_operator
COPY trainer_image/finetune_trainer trainer_image/finetune_trainer
COPY cli/finetune_cli cli/finetune_cli
RUN /opt/build/bin/python -m hatchling build --target wheel --directory /dist \
 && /opt/build/bin/uv pip install --quiet --offline --no-deps --python /opt/venv --target /opt/app /dist/*.whl

FROM ${BASE_IMAGE}
LABEL org.opencontainers.image.title="finetune-operator" \
      org.opencontainers.image.licenses="Apache-2.0"
ENV PATH=/opt/app/bin:/opt/venv/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/tmp
COPY --from=dependencies /opt/venv /opt/venv
COPY --from=wheel /opt/app /opt/app
WORKDIR /
USER 65532:65532
ENTRYPOINT ["finetune-operator"]
