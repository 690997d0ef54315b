FROM base
WORKDIR /a/b/
RUN pwd > o
WORKDIR /a//b/../c
WORKDIR d/
RUN pwd > o
WORKDIR /a/../end/
RUN pwd > o
# row: WORKDIR from the root stays as it is written
# peers: buildah buildkit
# want: tree a/b/o f644 0:0 /a/b\n
# want: tree a/c/d/o f644 0:0 /a/c/d\n
# want: tree end/o f644 0:0 /end\n
# want: config WorkingDir /a/../end/
