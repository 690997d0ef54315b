FROM base
ARG TARGETARCH
ARG BUILDOS
RUN echo $TARGETARCH $BUILDOS > /o
# row: platform ARGs
# peers: none
# want: tree o f644 0:0 amd64 linux\n
