FROM base AS a
ARG X=1
FROM base
RUN echo -$X- > /o
# row: ARG ends with its stage
# peers: buildah buildkit
# want: tree o f644 0:0 --\n
