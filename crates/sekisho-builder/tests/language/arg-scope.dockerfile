ARG G=global
FROM base
ARG G
ARG L=local N
RUN echo $G-$L-$N- > /o
# row: ARG scope
# peers: buildah buildkit
# want: tree o f644 0:0 global-local--\n
