FROM base
ARG TARGETARCH
ARG BUILDOS
RUN echo $TARGETARCH $BUILDOS > /o
# row: platform ARGs
# peers: buildkit-now
# want: tree o f644 0:0 amd64 linux\n
