# One image for the three parts: `migrate`, `api` and `worker` are its commands. See docker-compose.yml.
FROM python:3.11-slim

# PyTorch for GPUs is several GB. A machine without one gets by with the smaller build, from the index that PyTorch
# offers for it: docker compose build --build-arg PIP_EXTRA_INDEX_URL=...
ARG PIP_EXTRA_INDEX_URL
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1

WORKDIR /app
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY service service
COPY workers workers
COPY migrations migrations
RUN pip install --constraint constraints.txt '.'

# A volume that is mounted here takes over the owner.
RUN useradd --system --uid 10001 trainbox && install --directory --owner=trainbox --mode=0700 /data
USER trainbox
ENV TRAINBOX_HOME=/data
VOLUME /data
EXPOSE 8000

ENTRYPOINT ["trainbox"]
CMD ["serve"]
