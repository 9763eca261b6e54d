# The images: `make images` builds both targets, operator and trainer; docs/install.md says more.
#
# Layers, from the one that changes least: base, pinned packages, our own distributions. Installers are mounted, or stay in
# stages of their own: neither uv and pip nor their caches are in a result. The text of a RUN says all that decides its
# result, since buildah does not notice that something mounted has changed.
#
# Secrets, none of them required, tell pip and uv how to reach their index: certificates (a CA bundle), environment
# (lines NAME=value, quoted for a shell) and uv (a uv.toml).

# An image with Python 3.11 to 3.14; a digest may follow: …@sha256:…
ARG BASE=docker.io/library/python:3.13-slim-trixie
# torch brings CUDA's libraries along. DeepSpeed kernels that are compiled at run time need a CUDA development image.
ARG TRAINER_BASE=${BASE}


FROM ${BASE} AS installer
COPY requirements/uv.txt requirements/build.txt /opt/
RUN --mount=type=secret,id=certificates --mount=type=secret,id=environment \
    --mount=type=bind,source=docker,target=/mnt \
    python3 -m venv /opt/installer \
    && sh /mnt/site.sh python -m pip install --quiet --no-cache-dir --disable-pip-version-check \
        --only-binary :all: --require-hashes --requirement /opt/uv.txt

# To be mounted: a stage whose last step came from buildah's cache would be mounted as its base.
FROM installer AS tools

FROM installer AS wheels
COPY LICENSE /src/
COPY api /src/api/
COPY operator /src/operator/
COPY trainer /src/trainer/
RUN --mount=type=secret,id=certificates --mount=type=secret,id=environment --mount=type=secret,id=uv \
    --mount=type=cache,target=/var/cache/uv,sharing=locked \
    --mount=type=bind,source=docker,target=/mnt \
    sh /mnt/site.sh sh -c 'for name in api operator trainer; do \
        uv build --quiet --wheel --out-dir /wheels --build-constraints /opt/build.txt --require-hashes "/src/$name" \
            || exit 1; done'


FROM ${BASE} AS operator-base
COPY docker/base.sh /tmp/base.sh
RUN sh /tmp/base.sh && rm /tmp/base.sh
ENV HOME=/tmp PATH=/opt/g2rpo/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1

FROM operator-base AS operator-pins
COPY requirements/build.txt requirements/operator.txt /usr/local/share/g2rpo/
# Of the kubernetes client's classes, which it imports when one is asked for, hardly any is: compiled they take 50 MB.
RUN --mount=type=secret,id=certificates --mount=type=secret,id=environment --mount=type=secret,id=uv \
    --mount=type=cache,target=/var/cache/uv,sharing=locked \
    --mount=type=bind,from=tools,source=/opt/installer,target=/opt/installer \
    --mount=type=bind,source=docker,target=/mnt \
    pins=/usr/local/share/g2rpo \
    && sh /mnt/site.sh uv venv --quiet --python "$(command -v python3)" /opt/g2rpo \
    && sh /mnt/site.sh uv pip sync --quiet --python /opt/g2rpo/bin/python --require-hashes \
        --build-constraints "$pins/build.txt" "$pins/operator.txt" \
    && python3 -W ignore -m compileall -q -j 0 --invalidation-mode unchecked-hash \
        -x 'kubernetes/(aio/)?client/(models|api)/' /opt/g2rpo/lib

# uv notes when it installed a wheel: no two builds would be the same.
FROM operator-pins AS operator-own
COPY --from=wheels /wheels/g2rpo_api-*.whl /wheels/g2rpo_operator-*.whl /wheels/
RUN --mount=type=bind,from=tools,source=/opt/installer,target=/opt/installer \
    --mount=type=bind,source=docker,target=/mnt \
    sh /mnt/site.sh uv pip install --quiet --no-cache --no-index --no-deps --python /opt/g2rpo/bin/python \
        --prefix /own /wheels/*.whl \
    && rm /own/lib/python3.*/site-packages/*.dist-info/uv_cache.json \
    && sed -i '/uv_cache.json,/d' /own/lib/python3.*/site-packages/*.dist-info/RECORD \
    && python3 -m compileall -q --invalidation-mode unchecked-hash /own/lib

FROM operator-pins AS operator
COPY --from=operator-own /own/ /opt/g2rpo/
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["python", "-m", "g2rpo_operator"]
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s \
    CMD ["python", "-c", "import os, urllib.request as web; \
web.urlopen('http://localhost:' + os.environ.get('G2RPO_OPERATOR_PORT', '8080') + '/healthz', timeout=4)"]
ARG BASE
ARG VERSION
ARG REVISION
ARG SOURCE
ARG CREATED
LABEL org.opencontainers.image.title="g2rpo/operator" \
    org.opencontainers.image.description="Kubernetes operator that turns G2RPOJob resources into GPU training pods." \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.base.name="$BASE" \
    org.opencontainers.image.version="$VERSION" \
    org.opencontainers.image.revision="$REVISION" \
    org.opencontainers.image.source="$SOURCE" \
    org.opencontainers.image.created="$CREATED"


FROM ${TRAINER_BASE} AS trainer-base
COPY docker/base.sh /tmp/base.sh
RUN sh /tmp/base.sh && rm /tmp/base.sh && install --directory --owner 65532 --group 65532 /runs /cache
ENV HOME=/tmp PATH=/opt/g2rpo/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1

FROM trainer-base AS trainer-pins
COPY requirements/build.txt requirements/trainer*.txt /usr/local/share/g2rpo/
# Which of the trainer's extras are wanted, such as "parquet wandb".
ARG EXTRAS=""
# One file of torch is in the syntax of Python 3.12, which 3.11 cannot compile.
RUN --mount=type=secret,id=certificates --mount=type=secret,id=environment --mount=type=secret,id=uv \
    --mount=type=cache,target=/var/cache/uv,sharing=locked \
    --mount=type=bind,from=tools,source=/opt/installer,target=/opt/installer \
    --mount=type=bind,source=docker,target=/mnt \
    pins=/usr/local/share/g2rpo \
    && sh /mnt/site.sh uv venv --quiet --python "$(command -v python3)" /opt/g2rpo \
    && sh /mnt/site.sh uv pip sync --quiet --python /opt/g2rpo/bin/python --require-hashes \
        --build-constraints "$pins/build.txt" "$pins/trainer.txt" \
    && for extra in $EXTRAS; do \
        sh /mnt/site.sh uv pip install --quiet --python /opt/g2rpo/bin/python --require-hashes --no-deps \
            --requirement "$pins/trainer-$extra.txt" || exit 1; \
    done \
    && python3 -W ignore -m compileall -q -j 0 --invalidation-mode unchecked-hash -x py312_intrinsics.py /opt/g2rpo/lib

FROM trainer-pins AS trainer-own
COPY --from=wheels /wheels/g2rpo_api-*.whl /wheels/g2rpo_trainer-*.whl /wheels/
RUN --mount=type=bind,from=tools,source=/opt/installer,target=/opt/installer \
    --mount=type=bind,source=docker,target=/mnt \
    sh /mnt/site.sh uv pip install --quiet --no-cache --no-index --no-deps --python /opt/g2rpo/bin/python \
        --prefix /own /wheels/*.whl \
    && rm /own/lib/python3.*/site-packages/*.dist-info/uv_cache.json \
    && sed -i '/uv_cache.json,/d' /own/lib/python3.*/site-packages/*.dist-info/RECORD \
    && python3 -m compileall -q --invalidation-mode unchecked-hash /own/lib

FROM trainer-pins AS trainer
COPY --from=trainer-own /own/ /opt/g2rpo/
# Everything else that is written goes to HOME; pods of the operator have a volume at /cache for it.
ENV G2RPO_RUNS_DIR=/runs NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 65532:65532
EXPOSE 9464
# No HEALTHCHECK: the image also runs g2rpo-sample, which serves nothing, and g2rpo-reward-server, at another port.
ENTRYPOINT ["g2rpo-train"]
ARG TRAINER_BASE
ARG VERSION
ARG REVISION
ARG SOURCE
ARG CREATED
LABEL org.opencontainers.image.title="g2rpo/trainer" \
    org.opencontainers.image.description="Granular-GRPO training of flow-matching image models on DeepSpeed." \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.base.name="$TRAINER_BASE" \
    org.opencontainers.image.version="$VERSION" \
    org.opencontainers.image.revision="$REVISION" \
    org.opencontainers.image.source="$SOURCE" \
    org.opencontainers.image.created="$CREATED"
