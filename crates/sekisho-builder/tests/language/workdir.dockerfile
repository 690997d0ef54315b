FROM base
WORKDIR /a
WORKDIR b/../c
RUN pwd > o
WORKDIR /new/deep
# row: WORKDIR
# peers: buildah buildkit
