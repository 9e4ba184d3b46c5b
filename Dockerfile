# One image for API, worker and migration: which of them a container is, its command says.
FROM python:3.11-slim-bookworm AS build

# Where else to look for torch, such as PyTorch's index of CPU builds: the default one's brings CUDA with it
ARG TORCH_INDEX=""
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PATH=/opt/diffin/bin:$PATH
WORKDIR /src
RUN python -m venv /opt/diffin
COPY requirements/ requirements/
RUN pip install --no-deps --require-hashes --requirement requirements/server.txt \
    && pip install ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} --requirement requirements/torch.txt
COPY pyproject.toml README.md LICENSE ./
COPY app/ app/
COPY worker/ worker/
COPY diffin/ diffin/
COPY migrations/ migrations/
RUN pip install --no-deps --no-build-isolation .


FROM python:3.11-slim-bookworm

# /data is theirs in the image, so that a fresh volume mounted there is as well
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin diffin \
    && install --directory --owner diffin --group diffin /data
COPY --from=build /opt/diffin /opt/diffin
ENV PATH=/opt/diffin/bin:$PATH PYTHONUNBUFFERED=1 DIFFIN_DATA_DIR=/data DIFFIN_HOST=0.0.0.0
USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 8000
ENTRYPOINT ["diffin"]
CMD ["serve"]
