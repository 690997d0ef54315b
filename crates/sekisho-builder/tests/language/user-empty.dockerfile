FROM base
WORKDIR /w
USER app
USER $UNSET
WORKDIR $UNSET
RUN id -u > o; pwd >> o
# row: USER, WORKDIR
# peers: buildkit
# want: tree w/o f644 0:0 0\n/w\n
