# SPDX-License-Identifier: Apache-2.0
# The three images of Tulle, for docker build, podman build and buildah bud alike:
#   docker build --target operator -t REGISTRY/tulle-operator:TAG .
#   docker build --target injector -t REGISTRY/tulle-injector:TAG .
#   docker build --target proxy    -t REGISTRY/tulle-proxy:TAG .
# Each final image holds the executables and exactly the libraries that they need: no shell, no
# package manager, no root.

FROM debian:bookworm-slim AS build
WORKDIR /src
COPY tools/deps.sh tools/
RUN tools/deps.sh build && \
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends ca-certificates \
        >/dev/null && \
    rm -rf /var/lib/apt/lists/*
COPY Makefile VERSION ./
COPY proto proto
COPY lib lib
COPY mesh mesh
COPY operator operator
COPY injector injector
COPY cli cli
COPY manifests/install.yaml manifests/
COPY manifests/profiles manifests/profiles
COPY proxy proxy
COPY tools tools
# A folder within the context that holds executables built on Debian 12 already ("build/release/bin");
# empty: they are built here.
ARG PREBUILT=
COPY Dockerfile ${PREBUILT} /prebuilt/
RUN mkdir -p /out && \
    if [ -n "$PREBUILT" ]; then cp -a /prebuilt /out/bin; \
    else make -j"$(nproc)" BUILD=/build all && cp -a /build/release/bin /out/bin; fi && \
    strip --strip-unneeded $(find /out/bin -type f -name 'tulle*')
# PREBUILT may hold only some of them; an image whose executables are missing then cannot be built.
RUN cd /out/bin && re2=$PWD/tulle-re2.so=/usr/local/lib/tulle/tulle-re2.so && \
    collect=/src/tools/collect-libs.sh && \
    if [ -e tulle-operator ]; then \
        $collect /root-operator --names "$PWD/tulle-operator" "$re2"; fi && \
    if [ -e tulle-injector ]; then \
        $collect /root-injector "$PWD/tulle-injector" "$re2"; fi && \
    if [ -e tulle-proxy ]; then \
        $collect /root-proxy --names "$PWD/tulle-proxy" "$PWD/tulle-proxy-data" "$re2" \
            libnftables.so.1 libcares.so.2; fi

FROM scratch AS operator
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="tulle-operator" \
    org.opencontainers.image.description="Control plane of the Tulle service mesh" \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.base.name="scratch"
COPY --from=build /root-operator/ /
USER 65532:65532
EXPOSE 15012 15014
ENTRYPOINT ["/usr/local/bin/tulle-operator"]

FROM scratch AS injector
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="tulle-injector" \
    org.opencontainers.image.description="Admission webhooks of the Tulle service mesh" \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.base.name="scratch"
COPY --from=build /root-injector/ /
USER 65532:65532
EXPOSE 15017
ENTRYPOINT ["/usr/local/bin/tulle-injector"]

FROM scratch AS proxy
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="tulle-proxy" \
    org.opencontainers.image.description="Sidecar of the Tulle service mesh" \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.base.name="scratch"
COPY --from=build /root-proxy/ /
USER 1337:1337
EXPOSE 15001 15006 15020 15021 15090
ENTRYPOINT ["/usr/local/bin/tulle-proxy"]
