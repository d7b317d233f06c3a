# A local stand-in for python:3.10: the slim one with a compiler and the headers that most source packages ask for.
# The official image holds more; the context is prepared by `cargo xtask bases`.
FROM scratch
ADD rootfs.tar /
ENV PATH=/usr/local/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    LANG=C.UTF-8 \
    GPG_KEY=A035C8C19219BA821ECEA86B64E628F8D684696D
ARG RUNTIME_PACKAGES
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
        ca-certificates netbase tzdata $RUNTIME_PACKAGES \
    && apt-get clean \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/cache/ldconfig/aux-cache /var/log/apt/* /var/log/*.log
COPY machine/ /
RUN update-ca-certificates
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
        curl g++ gcc git libc6-dev libffi-dev libpq-dev libssl-dev make patch pkg-config xz-utils zlib1g-dev \
    && apt-get clean \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/cache/ldconfig/aux-cache /var/log/apt/* /var/log/*.log
ADD python.tar /usr/local/
ARG PYTHON_VERSION
ENV PYTHON_VERSION=$PYTHON_VERSION
RUN ldconfig \
    && rm -f /var/cache/ldconfig/aux-cache \
    && export PYTHONDONTWRITEBYTECODE=1 \
    && python3 -c 'import bz2, ctypes, lzma, platform, readline, sqlite3, ssl, uuid, zlib; print(platform.python_version())' \
    && pip --version
LABEL org.opencontainers.image.title="local stand-in for python:3.10" \
      org.opencontainers.image.description="NOT the official image: Debian packages and this machine's CPython, made by cargo xtask bases"
CMD ["python3"]
