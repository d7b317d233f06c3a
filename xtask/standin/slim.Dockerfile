# A local stand-in for python:3.10-slim: Debian's base, the libraries that Python loads, CPython at /usr/local.
# The context is prepared by `cargo xtask bases`: rootfs.tar, python.tar and what this machine adds (machine/).
FROM scratch
ADD rootfs.tar /
ENV PATH=/usr/local/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    LANG=C.UTF-8 \
    GPG_KEY=A035C8C19219BA821ECEA86B64E628F8D684696D
# The Debian packages that own the libraries Python is linked with.
ARG RUNTIME_PACKAGES
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
        ca-certificates netbase tzdata $RUNTIME_PACKAGES \
    && apt-get clean \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/cache/ldconfig/aux-cache /var/log/apt/* /var/log/*.log
COPY machine/ /
RUN update-ca-certificates
ADD python.tar /usr/local/
ARG PYTHON_VERSION
ENV PYTHON_VERSION=$PYTHON_VERSION
RUN ldconfig \
    && rm -f /var/cache/ldconfig/aux-cache \
    && export PYTHONDONTWRITEBYTECODE=1 \
    && python3 -c 'import bz2, ctypes, lzma, platform, readline, sqlite3, ssl, uuid, zlib; print(platform.python_version())' \
    && pip --version
LABEL org.opencontainers.image.title="local stand-in for python:3.10-slim" \
      org.opencontainers.image.description="NOT the official image: Debian packages and this machine's CPython, made by cargo xtask bases"
CMD ["python3"]
