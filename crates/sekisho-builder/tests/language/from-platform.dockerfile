FROM --platform=$BUILDPLATFORM base
ARG TARGETOS
RUN echo $TARGETOS > /os
# row: FROM --platform
# peers: buildkit-now
# want: tree os f644 0:0 linux\n
